"""The waves and turns of a rollout as a drawing: time goes right, hosts go down in the order of their waves.

Pure; pixels. What a wave contains is never cut: where times contradict each other, it begins and ends with its hosts.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rackhand.outcome import HostOutcome, RunOutcome, WaveOutcome
from rackhand.page import words
from rackhand.page.drawing import LEFT, RIGHT, TOP, WIDTH, Band, Box, DrawnRow, Mark, Tick, Timeline
from rackhand.page.phases import Phase, Span
from rackhand.page.rows import Row, rows_of

HEAD, GAP, FOOT = 26, 14, 8
# Distances of the axis in seconds; the smallest whose numbers have room beside each other is taken.
STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 28_800, 86_400)
TICK_ROOM = 64


@dataclass(frozen=True, kw_only=True)
class _Scale:
    """Where a second of the run lies."""

    begin_s: float
    end_s: float

    @property
    def pixels(self) -> float:
        return (WIDTH - RIGHT - LEFT) / (self.end_s - self.begin_s)

    def x(self, second: float) -> float:
        return LEFT + (min(max(second, self.begin_s), self.end_s) - self.begin_s) * self.pixels


def timeline(run: RunOutcome) -> Timeline | None:
    """Lay out a rollout; None where no host had a turn."""
    turns = [host.turn for host in run.hosts if host.turn]
    if not turns:
        return None
    begin_s = min(turn.began_s for turn in turns)
    open_end = any(turn.ended_s is None for turn in turns)
    last_s = max(end for turn in turns for end in (turn.began_s, turn.ended_s) if end is not None)
    scale = _Scale(begin_s=begin_s, end_s=max(words.end_s(run) if open_end else last_s, begin_s + 1))
    bands = tuple(_bands(run, scale))
    phases = {box.phase for band in bands for row in band.rows for box in row.boxes}
    return Timeline(
        height=max(band.top + band.height for band in bands) + FOOT,
        begin_s=scale.begin_s,
        end_s=scale.end_s,
        ticks=tuple(_ticks(scale)),
        bands=bands,
        legend=tuple(phase for phase in Phase if phase in phases),
    )


def _ticks(scale: _Scale) -> Iterator[Tick]:
    step = next((size for size in STEPS if size * scale.pixels >= TICK_ROOM), STEPS[-1])
    for second in range(-int(-scale.begin_s // step) * step, int(scale.end_s) + 1, step):
        yield Tick(x=scale.x(second), label=words.clock(second))


def _bands(run: RunOutcome, scale: _Scale) -> Iterator[Band]:
    y = float(TOP)
    for wave, hosts in _waves(run):
        rows = rows_of(hosts, scale.end_s, len(run.hosts))
        drawn = tuple(_placed(rows, y + HEAD, scale))
        left, right = (scale.x(second) for second in _extent(wave, hosts, scale))
        bottom = drawn[-1].y + drawn[-1].row.height if drawn else y + HEAD
        title = f"Wave {wave.number}" + (" · canary" if wave.number == 1 and len(run.waves) > 1 else "")
        yield Band(
            title=title,
            note=_note(wave, hosts),
            y=y,
            x=left,
            top=y + HEAD - 3,
            width=right - left,
            height=bottom - (y + HEAD) + 6,
            rows=drawn,
        )
        y = bottom + GAP


def _waves(run: RunOutcome) -> Iterator[tuple[WaveOutcome, list[HostOutcome]]]:
    """Yield the waves with their hosts; turns of a wave that the report does not list make one of their own."""
    known = {host.name: host for host in run.hosts}
    listed = {name for wave in run.waves for name in wave.hosts}
    for wave in run.waves:
        yield wave, [known[name] for name in wave.hosts if name in known]
    strays = [host for host in run.hosts if host.turn and host.name not in listed]
    for number in sorted({host.turn.wave for host in strays if host.turn}):
        found = [host for host in strays if host.turn and host.turn.wave == number]
        yield WaveOutcome(number=number, hosts=tuple(host.name for host in found)), found


def _extent(wave: WaveOutcome, hosts: Sequence[HostOutcome], scale: _Scale) -> tuple[float, float]:
    """Return when a wave began and ended, its hosts included; nothing for one that never began."""
    turns = [host.turn for host in hosts if host.turn]
    times = [(wave.began_s, wave.ended_s), *((turn.began_s, turn.ended_s) for turn in turns)]
    begun = [(begin, scale.end_s if end is None else end) for begin, end in times if begin is not None]
    if not begun:
        return scale.begin_s, scale.begin_s
    return min(begin for begin, _ in begun), max(second for both in begun for second in both)


def _note(wave: WaveOutcome, hosts: Sequence[HostOutcome]) -> str:
    told = words.counted(len(wave.hosts), "host")
    if wave.began_s is None and not any(host.turn for host in hosts):
        return f"{told} · did not begin"
    if wave.began_s is None or wave.ended_s is None:
        return f"{told} · did not end"
    return f"{told} · {words.duration(wave.ended_s - wave.began_s)}"


def _placed(rows: Sequence[Row], y: float, scale: _Scale) -> Iterator[DrawnRow]:
    for row in rows:
        boxes = [
            _box(row, span, lane.name, y + row.lane_y(place), scale)
            for place, lane in enumerate(row.lanes)
            for span in lane.spans
        ]
        bar_end = y + row.lane_y(max(len(row.lanes) - 1, 0)) + row.lane_height
        outages = (
            Mark(
                x=scale.x(begin),
                y=bar_end + row.outage_gap,
                width=(end - begin) * scale.pixels,
                height=row.outage_height,
                title=f"{row.name}: none of its servers in service, {words.duration(end - begin)}",
            )
            for begin, end in row.outages
        )
        failures = (
            Mark(x=scale.x(at_s), y=y + row.lane_y(0), width=0, height=bar_end - y - row.lane_y(0), title=title)
            for at_s, title in row.failures
        )
        yield DrawnRow(row=row, y=y, boxes=tuple(boxes), outages=tuple(outages), failures=tuple(failures))
        y += row.height


def _box(row: Row, span: Span, instance: str, y: float, scale: _Scale) -> Box:
    """Draw what disturbs an instance at full height, and as a thin line what does not."""
    share = 1.0 if span.phase.disturbed else 0.3
    height = row.lane_height * share
    where = f"{row.name} {instance}".rstrip()
    return Box(
        x=scale.x(span.begin_s),
        y=y + (row.lane_height - height) / 2,
        width=span.seconds * scale.pixels,
        height=height,
        phase=span.phase,
        title=f"{where}: {span.phase.words}, {words.duration(span.seconds)} from {words.clock(span.begin_s)}",
    )
