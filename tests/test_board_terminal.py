"""The board on a real terminal: others write above the block, nothing is torn, and the cursor comes back."""

import contextlib
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
COLUMNS, ROWS = 72, 40
LONGEST_S = 60
LONG = "a long line of somebody else " * 6  # as in board_run.py, which patches whatever imports it
CONTROL = re.compile(r"\x1b\[(\??[0-9;]*)([A-Za-z])")


class Screen:
    """A terminal that never forgets a line; it knows what rich and pyinfra send, and refuses anything else."""

    def __init__(self) -> None:
        self.rows: list[str] = [""]
        self.wrapped: set[int] = set()
        self.row = self.column = 0
        self.cursor, self.hidden = True, False

    def feed(self, text: str) -> "Screen":
        place = 0
        while place < len(text):
            if found := CONTROL.match(text, place):
                self._control(found[1], found[2])
                place = found.end()
            else:
                self._letter(text[place])
                place += 1
        return self

    def _control(self, number: str, what: str) -> None:
        if number == "?25":
            self.cursor = what == "h"
            self.hidden = self.hidden or not self.cursor
        elif what == "A":
            self.row -= int(number or 1)
            assert self.row >= 0, "the cursor left the screen"
        elif what == "K":
            line = self.rows[self.row]
            self.rows[self.row] = "" if number == "2" else line[: self.column]
        else:
            assert what == "m", f"what is {number}{what}?"

    def _letter(self, letter: str) -> None:
        if letter == "\r":
            self.column = 0
        elif letter == "\n":
            self._down()
        else:
            assert letter >= " ", repr(letter)
            if self.column == COLUMNS:
                self._down()
                self.column = 0
                self.wrapped.add(self.row)
            line = self.rows[self.row].ljust(self.column)
            self.rows[self.row] = line[: self.column] + letter + line[self.column + 1 :]
            self.column += 1

    def _down(self) -> None:
        self.row += 1
        if self.row == len(self.rows):
            self.rows.append("")

    @property
    def lines(self) -> list[str]:
        """Return lines as they were written, those that the terminal broke in one piece."""
        lines: list[str] = []
        for place, text in enumerate(self.rows):
            if place in self.wrapped:
                lines[-1] += text
            else:
                lines.append(text)
        return [line.rstrip() for line in lines]


def ran(end: str) -> tuple[Screen, int]:
    """Run the script on a terminal; return what is on the screen at the end, and the exit status."""
    control, side = pty.openpty()
    fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color", "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1"}
    for name in ("COLUMNS", "LINES", "NO_COLOR", "PYINFRA_PROGRESS"):
        environment.pop(name, None)
    command = [sys.executable, "-m", "tests.board_run", end]
    with subprocess.Popen(command, stdin=side, stdout=side, stderr=side, cwd=ROOT, env=environment) as process:
        os.close(side)
        raw = _read(control, process)
    os.close(control)
    # What a terminal is told goes to it with a carriage return before each new line.
    return Screen().feed(raw.decode()), process.returncode


def _read(control: int, process: "subprocess.Popen[bytes]") -> bytes:
    """Read what a process writes to its terminal until it has ended; never wait for a terminal that stays open."""
    raw, deadline = b"", time.monotonic() + LONGEST_S
    # Reading from a terminal that nobody has open any more is an error.
    with contextlib.suppress(OSError):
        while time.monotonic() < deadline:
            over = process.poll() is not None
            if select.select([control], [], [], 0.1)[0]:
                raw += os.read(control, 65536)
            elif over:
                break
    if process.poll() is None:
        process.kill()
    return raw


@pytest.fixture(scope="module")
def closed() -> Screen:
    screen, status = ran("close")
    assert status == 0, "\n".join(screen.lines)
    return screen


def others(screen: Screen) -> list[str]:
    return [line for line in screen.lines if "somebody" in line or "half" in line or "hostile" in line]


def test_every_line_of_others_is_there_once_whole_and_in_order(closed: Screen) -> None:
    said = [
        text
        for number in range(20)
        for text in (f"    echo {number} of somebody", f"print {number} of somebody", f"half {number} and half")
    ]
    assert others(closed) == [*said, LONG.rstrip(), "hostile"]


def test_the_block_is_there_once_and_below_all_others(closed: Screen) -> None:
    lines = closed.lines[closed.lines.index("hostile") + 1 :]
    assert re.sub(r"\d+ s", "T", "\n".join(lines)).split("\n") == [
        "",
        "wave 1 of 1 · 1 of 2 hosts through · 1 failed · T elapsed",
        "through: gpu-1 (T)",
        "failed: gpu-2 (rolled back, T)",
        "stopped: the canary failed: gpu-2 (rolled back)",
        "the table",
        "",
    ]
    assert sum("wave 1 of 1" in line for line in closed.lines) == 1


def test_a_spinner_is_not_seen_beside_the_block(closed: Screen) -> None:
    below = closed.lines[closed.lines.index("    echo 0 of somebody") :]
    assert not any("{gpu" in line for line in below)


@pytest.mark.parametrize(("end", "status"), [("close", 0), ("interrupt", 130), ("raise", 1)])
def test_the_cursor_comes_back_however_it_ends(end: str, status: int) -> None:
    screen, returned = ran(end)
    assert (screen.hidden, screen.cursor) == (True, True)
    assert returned == status or (end == "raise" and returned == -2)


def test_after_an_interruption_the_last_state_stands_above_the_table() -> None:
    lines = ran("interrupt")[0].lines
    head = next(place for place, line in enumerate(lines) if line.startswith("wave 1 of 1 · 0 of 2 hosts through"))
    assert [line.split()[:1] for line in lines[head + 1 :]] == [["host"], ["gpu-1"], ["gpu-2"], ["the"], []]
