"""A block that stays at the bottom of a terminal while other writers go on above it."""

import atexit
import contextlib
import io
import logging
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, TextIO

import gevent  # type: ignore[import-untyped]
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text
from typing_extensions import override

from rackhand.terminal import WIDEST, Terminal, clean

TICK_S = 0.25
SHOW_CURSOR, ERASE = "\x1b[?25h", "\x1b[K"
Drawing = Callable[[int, int], Group]


def possible(stream: TextIO) -> bool:
    """Tell whether a stream is a terminal on which lines can be drawn again.

    A log handler that keeps the stream (--debug-all) writes past whatever stands in for it: lines are better then.
    """
    if not stream.isatty() or os.environ.get("TERM", "") in ("", "dumb", "unknown"):
        return False
    kept = any(getattr(handler, "stream", None) in (sys.stderr, sys.stdout) for handler in logging.root.handlers)
    return Terminal.of(stream).unicode and not kept


class Block:
    """Draws what `draw` returns for a width and a height, several times a second, from `open` to `close`."""

    def __init__(self, stream: TextIO, draw: Drawing) -> None:
        self._stream, self._draw = stream, draw
        self._console = Console(
            file=stream, force_terminal=True, force_interactive=True, force_jupyter=False, highlight=False, markup=False
        )
        self._live = Live(console=self._console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False)
        self._before: dict[str, TextIO] = {}
        self._ticker: Any = None
        self._closed = False

    def open(self) -> None:
        # Whatever ends this program in a regular way, the terminal is given back.
        atexit.register(self.close)
        self._measure()
        self._live.start()
        for name in ("stdout", "stderr"):
            stream = getattr(sys, name)
            if stream.isatty():
                self._before[name] = stream
                setattr(sys, name, Above(stream, self._above))
        self.refresh()
        self._ticker = gevent.spawn(self._tick)

    def refresh(self) -> None:
        width, height = self._measure()
        self._live.update(self._draw(width, height), refresh=True)

    def close(self) -> None:
        """Leave the last state, give back the streams and the cursor, whatever goes wrong; once."""
        atexit.unregister(self.close)
        if self._closed:
            return
        self._closed = True
        if self._ticker is not None:
            self._ticker.kill(block=False)
        with contextlib.suppress(Exception):
            self.refresh()
        for name, stream in self._before.items():
            stand_in = getattr(sys, name)
            if isinstance(stand_in, Above):
                setattr(sys, name, stream)
                with contextlib.suppress(Exception):
                    stand_in.release()
        with contextlib.suppress(Exception):
            self._live.stop()
        # Where a signal came in the middle of a drawing, the console keeps its own last words to itself.
        with contextlib.suppress(Exception):
            self._stream.write(SHOW_CURSOR)
            self._stream.flush()

    def _tick(self) -> None:
        while True:
            gevent.sleep(TICK_S)
            with contextlib.suppress(Exception):
                self.refresh()

    def _above(self, lines: Sequence[str]) -> None:
        text = Text("\n").join(Text.from_ansi(_harmless(line)) for line in lines)
        self._console.print(text, soft_wrap=True)

    def _measure(self) -> tuple[int, int]:
        """Look how large the terminal is now; what COLUMNS says does not keep lines from being broken."""
        try:
            size = os.get_terminal_size(self._stream.fileno())
        except (OSError, ValueError):
            size = os.terminal_size((0, 0))
        width, height = size.columns or 80, size.lines or 24
        self._console.size = (width, height)
        return min(width, WIDEST), height


class Above(io.TextIOBase):
    """Stands in for a terminal's stream: whole lines appear above the block.

    What is drawn over again with carriage returns, as pyinfra's spinner is, does not appear at all.
    """

    def __init__(self, stream: TextIO, show: Callable[[Sequence[str]], None]) -> None:
        self._stream, self._show = stream, show
        self._half = ""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    @property
    @override
    def encoding(self) -> str:  # type: ignore[override]
        return self._stream.encoding

    @property
    @override
    def errors(self) -> str | None:  # type: ignore[override]
        return self._stream.errors

    @override
    def isatty(self) -> bool:
        return self._stream.isatty()

    @override
    def fileno(self) -> int:
        return self._stream.fileno()

    @override
    def writable(self) -> bool:
        return True

    @override
    def flush(self) -> None:
        """Do nothing: half a line would be drawn over."""

    @override
    def write(self, text: str) -> int:
        parts = text.replace("\r\n", "\n").replace(ERASE, "").split("\n")
        # A spinner writes itself at once, so nobody else's half line goes with it.
        first, *others = (part.rpartition("\r")[2] for part in parts)
        *lines, self._half = self._half + first, *others
        if lines:
            try:
                self._show(lines)
            except Exception:
                # Better a torn block than a lost line.
                self._stream.write("".join(f"{line}\n" for line in lines))
        return len(text)

    def release(self) -> None:
        """Pass on what is left, unless it is nothing to be seen."""
        half, self._half = self._half, ""
        if clean(half).strip():
            self._show([half])


def _harmless(line: str) -> str:
    """Take out the one-letter controls of eight-bit terminals, which rich leaves as they are."""
    return "".join(letter for letter in line if not "\x80" <= letter <= "\x9f")
