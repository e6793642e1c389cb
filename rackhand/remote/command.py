"""Run a long command with its output in a log file, so that the controller can show what is being waited for."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from rackhand.remote.problem import Problem

LOGS = Path("/var/log/rackhand")
LOCK = Path("/run/rackhand.lock")
POLL_S = 1
GRACE_S = 20
Answer = TypeVar("Answer")
# The lock's descriptor, which children inherit: the turn ends only when apt or uv does, even if we are killed.
held: list[int] = []


def alone(log: str) -> Callable[[Callable[..., Answer]], Callable[..., Answer]]:
    """Let long calls run one after the other on a host; their `timeout_s` shrinks by the time that this took.

    A run that was killed leaves its call working here, on purpose: half an installation is worse than a late one.
    The next run waits for that call and then finds its work done.
    """

    def decorate(function: Callable[..., Answer]) -> Callable[..., Answer]:
        @functools.wraps(function)
        def waiting(**arguments: Any) -> Answer:
            with _turn(log, function.__module__.rpartition(".")[2], arguments["timeout_s"]) as left_s:
                return function(**{**arguments, "timeout_s": left_s})

        return waiting

    return decorate


@contextlib.contextmanager
def _turn(log: str, name: str, timeout_s: int) -> Iterator[int]:
    deadline = time.monotonic() + timeout_s
    with LOCK.open("a+") as lock:
        while not _taken(lock.fileno()):
            lock.seek(0)
            who = lock.read().strip() or "an earlier run"
            if time.monotonic() > deadline:
                raise Problem(
                    "host-busy",
                    f"{who} of an earlier or another run is still at work after {timeout_s} s",
                    f"see {LOGS} on the host; wait for it to end or kill it, then run again",
                )
            say(f"{log}-turn", f"waiting for {who} of an earlier or another run")
            time.sleep(POLL_S)
        lock.truncate(0)
        lock.write(f"'{name}' (pid {os.getpid()})")
        lock.flush()
        say(log, "")
        held.append(lock.fileno())
        try:
            yield max(1, int(deadline - time.monotonic()))
        finally:
            held.clear()


def busy() -> bool:
    """Tell whether a long call is at work on this host, or what it began."""
    if not LOCK.exists():
        return False
    with LOCK.open("a+") as lock:
        return not _taken(lock.fileno())


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def run(
    arguments: Sequence[str], log: str, timeout_s: int, environment: Mapping[str, str] | None = None
) -> tuple[int, list[str]]:
    """Run to the end and return the exit status and the output's last 40 lines; the whole output stays in the log.

    A status of 124 means that `timeout_s` passed; the whole process group was ended then.
    """
    LOGS.mkdir(parents=True, exist_ok=True)
    path = LOGS / f"{log}.log"
    with path.open("wb") as output:
        process = subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "LC_ALL": "C.UTF-8", **(environment or {})},
            start_new_session=True,
            pass_fds=held,
        )
        try:
            status = process.wait(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            _end(process)
            status = 124
    return status, tail(path)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ask the process group to end, so that package managers can put things in order, then insist."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=GRACE_S)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def tail(path: Path, lines: int = 40) -> list[str]:
    """Return the last lines of a log, progress bars (carriage returns) resolved to their last state."""
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - 32_768))
        text = stream.read().decode(errors="replace")
    return [line.rsplit("\r", 1)[-1].rstrip() for line in text.splitlines() if line.strip()][-lines:]


def read(log: str) -> list[str]:
    """Return every line of a finished command's log."""
    return (LOGS / f"{log}.log").read_text(errors="replace").splitlines()


def say(log: str, text: str) -> None:
    """Put one line of our own where progress is read from."""
    LOGS.mkdir(parents=True, exist_ok=True)
    (LOGS / f"{log}.log").write_text(f"{text}\n" if text else "")


def progress(log: str) -> str:
    """Return the newest line of the newest log whose name begins with `log`; empty when there is none yet."""
    logs = sorted(LOGS.glob(f"{log}*.log"), key=lambda path: path.stat().st_mtime_ns)
    return (tail(logs[-1], 1) or [""])[0][:160] if logs else ""
