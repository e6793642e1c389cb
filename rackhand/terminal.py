"""What a terminal can show: its width, colours, letters; tables and paragraphs made for it."""

import os
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO
from typing import TextIO

from rich import box
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

_ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|[\x00-\x08\x0a-\x1f\x7f-\x9f]")
NARROWEST, WIDEST, UNKNOWN_WIDTH = 60, 120, 100
# One letter for one letter where columns count; arrows and dots stand in prose only.
_ASCII = str.maketrans(
    {
        "█": "#", "▓": "+", "▞": "%", "▒": "=", "░": ":", "▚": "x", "▲": "^", "─": "-", "│": "|", "·": ".",
        "\N{MULTIPLICATION SIGN}": "x", "\N{EN DASH}": "-", "\N{EM DASH}": "-", "→": "->", "…": "...",
        "≤": "<=", "≥": ">=", "\N{NO-BREAK SPACE}": " ",
    }
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Terminal:
    """Where text goes: `width` in columns, `colour` only on a terminal, `unicode` only where the encoding has it."""

    width: int = UNKNOWN_WIDTH
    colour: bool = False
    unicode: bool = True

    @classmethod
    def of(cls, stream: TextIO) -> "Terminal":
        """Look at a stream: COLUMNS and NO_COLOR of the environment count, a file or a pipe has no colours."""
        encoding = (getattr(stream, "encoding", None) or "ascii").lower().replace("-", "")
        tty = stream.isatty()
        colour = tty and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        return cls(width=_width(stream, tty), colour=colour, unicode=encoding.startswith("utf"))

    def say(self, text: str) -> str:
        """Return text without control characters, in letters that the terminal has."""
        plain = clean(text)
        return plain if self.unicode else plain.translate(_ASCII).encode("ascii", "replace").decode()

    def paragraph(self, text: str, first: str = "", later: str = "") -> list[str]:
        """Wrap one paragraph, `first` before its first line and `later` before the others."""
        return textwrap.wrap(
            self.say(text),
            self.width,
            initial_indent=self.say(first),
            subsequent_indent=self.say(later),
            break_on_hyphens=False,
            break_long_words=False,
        )

    def styled(self, text: str, style: str = "") -> Text:
        """Return text with a style that shows only where there is colour."""
        return Text(self.say(text), style=style)

    def table(
        self,
        columns: Sequence[str],
        rows: Sequence[Sequence[str | Text]],
        right: Sequence[str] = (),
        whole: Sequence[str] = (),
    ) -> list[str]:
        """Draw a table; columns named in `right` are numbers. They, the first and those in `whole` never wrap."""
        grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), show_edge=False)
        for name in columns:
            fixed = name == columns[0] or name in right or name in whole
            grid.add_column(
                self.say(name), no_wrap=fixed, overflow="fold", justify="right" if name in right else "left"
            )
        for row in rows:
            grid.add_row(*(cell if isinstance(cell, Text) else Text(self.say(cell)) for cell in row))
        return self.drawn(grid)

    def drawn(self, thing: RenderableType) -> list[str]:
        """Return the lines of anything that rich can draw."""
        console = Console(
            file=StringIO(),
            width=self.width,
            force_terminal=self.colour,
            color_system="standard" if self.colour else None,
            highlight=False,
        )
        with console.capture() as capture:
            console.print(thing)
        lines = [line.rstrip() for line in capture.get().splitlines()]
        return lines if self.unicode else [line.translate(_ASCII) for line in lines]


def clean(text: str) -> str:
    """Take out what would move the cursor or colour the terminal: evidence comes from other programs."""
    return _ESCAPES.sub("", text.replace("\n", " "))


def _width(stream: TextIO, tty: bool) -> int:
    found = os.environ.get("COLUMNS", "")
    if found.isdigit() and int(found):
        return max(NARROWEST, min(WIDEST, int(found)))
    if not tty:
        return UNKNOWN_WIDTH
    try:
        return max(NARROWEST, min(WIDEST, os.get_terminal_size(stream.fileno()).columns))
    except OSError:
        return UNKNOWN_WIDTH


def write(text: str, stream: TextIO) -> None:
    """Print to a stream; a reader that went away (a pager, head) is no error."""
    try:
        stream.write(f"{text}\n")
        stream.flush()
    except BrokenPipeError:
        # Nothing is left to be flushed when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
