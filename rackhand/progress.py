"""What people see while a long step runs: who waits for what, how long, and what is happening there."""

import contextlib
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import gevent  # type: ignore[import-untyped]

Detail = Callable[[], str | None]
CROWD = 5  # more hosts than this waiting at once are counted, not listed


@dataclass(eq=False, kw_only=True)
class _Wait:
    host: str
    what: str
    deadline_s: float
    since: float
    detail: Detail | None
    asking: bool = False
    over: bool = False


@dataclass
class Progress:
    """Print one line per waiting host every `every_s` seconds; a step that is quicker prints nothing.

    `takes` is asked before a line is written, with the host and what is happening there: True where that is shown
    already. `clock` and `sleep` are injected for tests; both count seconds.
    """

    write: Callable[[str], None]
    takes: Callable[[str, str], bool] = lambda host, note: False
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], object] = gevent.sleep
    every_s: float = 10.0
    _waits: list[_Wait] = field(default_factory=list)

    @contextlib.contextmanager
    def waiting(self, host: str, what: str, deadline_s: float, detail: Detail | None = None) -> Iterator[None]:
        """Report on the body of the `with` until it ends; `detail` says in a few words what is happening now."""
        wait = _Wait(host=host, what=what, deadline_s=deadline_s, since=self.clock(), detail=detail)
        self._waits.append(wait)
        ticker = gevent.spawn(self._tick, wait)
        try:
            yield
        finally:
            wait.over = True
            self._waits.remove(wait)
            # A detail may be a command on the host's connection: let it end, its answer is dropped.
            if not wait.asking:
                ticker.kill(block=False)

    def _tick(self, wait: _Wait) -> None:
        while not wait.over:
            self.sleep(self.every_s)
            # Nothing that goes wrong while talking may disturb the step that is talked about.
            with contextlib.suppress(Exception):
                self._say(wait)

    def _say(self, wait: _Wait) -> None:
        place = self._waits.index(wait) if not wait.over else CROWD
        if place >= CROWD:
            return
        detail = _detail(wait)
        # The detail may have taken a while: the step may be over by now.
        if wait.over or self.takes(wait.host, detail or ""):
            return
        text = line(wait.host, wait.what, self.clock() - wait.since, wait.deadline_s, detail)
        others = len(self._waits) - CROWD
        if place == CROWD - 1 and others > 0:
            text += f" (and {others} more waiting)"
        self.write(text)


def line(host: str, what: str, waited_s: float, deadline_s: float, detail: str | None = None) -> str:
    """Return one line of progress, such as `rack1 │ vLLM environment: 40 s of at most 3600 s — Downloading torch`."""
    text = f"{host} │ {what}: {waited_s:.0f} s of at most {deadline_s:.0f} s"
    return f"{text} — {detail}" if detail else text


def _detail(wait: _Wait) -> str | None:
    wait.asking = True
    try:
        text = wait.detail() if wait.detail else None
    except Exception:
        return None
    finally:
        wait.asking = False
    # Programs draw their progress with carriage returns and colours: the last state in plain letters is wanted.
    lines = [part for part in (_plain(raw) for raw in (text or "").splitlines()) if part]
    return lines[-1] if lines else None


def _plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x1f\x7f]", "", text).strip()
