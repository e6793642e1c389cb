"""The memory bill as a drawing: boxes, lines and words with places, for whoever paints them. Pure; pixels."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from textwrap import wrap

from rackhand.picture.bars import Bar, Slice

WIDTH, MARGIN = 960, 40
BAR_HEIGHT, ROW = 48, 24
GIB = 1024
# Steps of the axis in GiB; the smallest whose numbers have room beside each other is taken.
STEPS = (1, 2, 4, 8, 16, 32, 64, 128)
TICK_ROOM, END_ROOM = 64, 84
LABEL_LETTER = 8.0
# How many letters of each size surely fit beside each other, and the distance between lines.
LETTERS = {"title": 62, "heading": 88, "text": 106, "faint": 114}
LEADING = {"title": 32, "heading": 24, "text": 22, "faint": 20}


@dataclass(frozen=True, kw_only=True)
class Box:
    """A filled rectangle; `role` names its colour: a term of the bill."""

    x: float
    y: float
    width: float
    height: float
    role: str
    title: str = ""


@dataclass(frozen=True, kw_only=True)
class Line:
    """A line; `role` is `allowed`, `edge` or `tick`."""

    x1: float
    y1: float
    x2: float
    y2: float
    role: str


@dataclass(frozen=True, kw_only=True)
class Words:
    """Text on a baseline; `anchor` is start, middle or end, `role` is title, heading, text, faint or inside."""

    x: float
    y: float
    text: str
    role: str = "text"
    anchor: str = "start"


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Everything to paint, in order."""

    width: int
    height: int
    title: str
    shapes: tuple[Box | Line | Words, ...]


def scene(title: str, subtitle: str, bars: Sequence[Bar]) -> Scene:
    """Lay out a title and one block per bar; all bars have one scale, so that cards can be compared."""
    end = max((bar.end_mib for bar in bars), default=1.0)
    head = [*_lines(title, 52, "title")]
    head += _lines(subtitle, head[-1].y + 28, "faint")
    shapes: list[Box | Line | Words] = [*head]
    y = head[-1].y + 24
    for bar in bars:
        block = _Block(bar, y, (WIDTH - 2 * MARGIN) / end)
        shapes += block.shapes()
        y = block.bottom
    return Scene(width=WIDTH, height=round(y + 16), title=title, shapes=tuple(shapes))


def _lines(text: str, y: float, role: str) -> Iterator[Words]:
    """Break a text that is wider than the picture; yields at least one line."""
    for number, line in enumerate(wrap(text, LETTERS[role]) or [""]):
        yield Words(x=MARGIN, y=y + number * LEADING[role], text=line, role=role)


@dataclass(frozen=True)
class _Block:
    """One bar with its heading above, its axis below and its legend under that; `scale` is pixels per MiB."""

    bar: Bar
    top: float
    scale: float

    @property
    def head(self) -> tuple[Words, ...]:
        label = tuple(_lines(self.bar.label, self.top + 20, "heading"))
        return (*label, *_lines(self.bar.note, label[-1].y + 24, "text"))

    @property
    def bar_y(self) -> float:
        return self.head[-1].y + 40

    @property
    def legend_y(self) -> float:
        return self.bar_y + BAR_HEIGHT + 56

    @property
    def bottom(self) -> float:
        return self.legend_y + ROW * ((len(self.bar.slices) + 1) // 2) + 16

    def shapes(self) -> Iterator[Box | Line | Words]:
        yield from self.head
        yield from self._bar()
        yield from self._axis()
        yield from self._allowed()
        yield from self._legend()

    def _bar(self) -> Iterator[Box | Words]:
        x = float(MARGIN)
        for part in self.bar.slices:
            width = part.mib * self.scale
            yield Box(x=x, y=self.bar_y, width=width, height=BAR_HEIGHT, role=part.term, title=told(part))
            yield from self._inside(part, x, width)
            x += width

    def _inside(self, part: Slice, x: float, width: float) -> Iterator[Words]:
        """Name a part where it has the room, beside the line of what is allowed."""
        allowed = MARGIN + self.bar.allowed_mib * self.scale
        room = min(width, allowed - x) if x < allowed else width
        if part.term == "free" or room < (len(part.name) + 2) * LABEL_LETTER:
            return
        middle = x + room / 2
        yield Words(x=middle, y=self.bar_y + 21, text=part.name, role="inside", anchor="middle")
        yield Words(x=middle, y=self.bar_y + 39, text=f"{part.mib / GIB:,.1f} GiB", role="inside", anchor="middle")

    def _axis(self) -> Iterator[Line | Words]:
        """Draw the GPU's end and a scale in GiB."""
        whole, y = self.bar.total_mib / GIB, self.bar_y + BAR_HEIGHT
        step = next((size for size in STEPS if size * GIB * self.scale >= TICK_ROOM), STEPS[-1])
        last = max(0.0, whole - END_ROOM / self.scale / GIB)
        for gib in range(0, int(last) + 1, step):
            x = MARGIN + gib * GIB * self.scale
            yield Line(x1=x, y1=y + 4, x2=x, y2=y + 10, role="tick")
            yield Words(x=x, y=y + 26, text=f"{gib}", role="faint", anchor="start" if gib == 0 else "middle")
        x = MARGIN + self.bar.total_mib * self.scale
        yield Line(x1=x, y1=self.bar_y - 8, x2=x, y2=y + 10, role="edge")
        yield Words(x=x, y=y + 26, text=f"{whole:,.1f} GiB", role="faint", anchor="end")

    def _allowed(self) -> Iterator[Line | Words]:
        x = MARGIN + self.bar.allowed_mib * self.scale
        yield Line(x1=x, y1=self.bar_y - 12, x2=x, y2=self.bar_y + BAR_HEIGHT + 4, role="allowed")
        text = f"allowed: {self.bar.allowed_share:.0%}, {self.bar.allowed_mib / GIB:,.1f} GiB"
        yield Words(x=x, y=self.bar_y - 18, text=text, role="faint", anchor="end" if x > WIDTH / 2 else "start")

    def _legend(self) -> Iterator[Box | Words]:
        rows, middle = (len(self.bar.slices) + 1) // 2, WIDTH / 2
        for place, part in enumerate(self.bar.slices):
            x = MARGIN if place < rows else middle + 16
            y = self.legend_y + ROW * (place % rows)
            yield Box(x=x, y=y - 12, width=14, height=14, role=part.term)
            yield Words(x=x + 24, y=y, text=part.name)
            yield Words(x=x + 300, y=y, text=f"{part.mib:,.0f} MiB", anchor="end")
            yield Words(x=x + 372, y=y, text=f"{part.share:.1%}", role="faint", anchor="end")


def told(part: Slice) -> str:
    """Say one part in full."""
    return f"{part.name}: {part.mib:,.0f} MiB, {part.share:.1%}"
