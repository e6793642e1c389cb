"""What a timeline is made of: boxes, marks and rows with their places, for the template that paints them. Pixels."""

from dataclasses import dataclass

from rackhand.page.phases import Phase
from rackhand.page.rows import Row

WIDTH, LEFT, RIGHT = 1120, 236, 188
TOP = 30


@dataclass(frozen=True, kw_only=True)
class Box:
    """A coloured part of a row; `phase` names its colour, `title` says more where one points at it."""

    x: float
    y: float
    width: float
    height: float
    phase: Phase
    title: str = ""


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A moment (`width` 0) or a length of time to be seen on a row."""

    x: float
    y: float
    width: float
    height: float
    title: str


@dataclass(frozen=True, kw_only=True)
class DrawnRow:
    """A row with its place; `outages` lie below its boxes, `failures` across them."""

    row: Row
    y: float
    boxes: tuple[Box, ...]
    outages: tuple[Mark, ...]
    failures: tuple[Mark, ...]


@dataclass(frozen=True, kw_only=True)
class Band:
    """One wave: its heading at `y`, and the rectangle of its time around its rows; of no width where it never
    began.
    """

    title: str
    note: str
    y: float
    x: float
    top: float
    width: float
    height: float
    rows: tuple[DrawnRow, ...]


@dataclass(frozen=True, kw_only=True)
class Tick:
    x: float
    label: str


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """Everything to draw; `begin_s` and `end_s` are the times at both edges of the plot."""

    height: float
    begin_s: float
    end_s: float
    ticks: tuple[Tick, ...]
    bands: tuple[Band, ...]
    legend: tuple[Phase, ...]
    width: int = WIDTH
    left: int = LEFT
    right: int = WIDTH - RIGHT
    top: int = TOP

    @property
    def thin(self) -> bool:
        return any(row.row.thin for band in self.bands for row in band.rows)

    @property
    def outage(self) -> bool:
        return any(row.outages for band in self.bands for row in band.rows)

    @property
    def failure(self) -> bool:
        return any(row.failures for band in self.bands for row in band.rows)
