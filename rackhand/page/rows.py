"""Which rows a wave has on the timeline: one per host, thin ones in a large fleet, and one for those left alone.

Pure; pixels.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rackhand.outcome import HostOutcome, HostStatus
from rackhand.page.colours import tone
from rackhand.page.phases import Lane, lanes, merged, outages
from rackhand.page.words import counted, names, out_words

# Up to so many hosts every instance has a lane of its own; up to so many every host has its name.
SPACIOUS, NAMED = 12, 40
# So many letters of a name have room, with and without the name of an instance beside it.
LETTERS, LETTERS_BESIDE, LETTERS_LANE = 32, 20, 11
TALL, THIN = 16.0, 4.0


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row: a host with a lane per instance or a single one, or hosts that had no turn, which have no lanes.

    `status` is empty where it goes without saying; `failures` are moments with what went wrong.
    """

    name: str
    label: str
    status: str
    note: str
    lanes: tuple[Lane, ...] = ()
    outages: tuple[tuple[float, float], ...] = ()
    failures: tuple[tuple[float, str], ...] = ()
    lane_height: float = TALL
    thin: bool = False
    tone: str = "good"

    @property
    def outage_gap(self) -> float:
        return 0.0 if self.thin else 2.0

    @property
    def outage_height(self) -> float:
        return 1.0 if self.thin else 3.0

    @property
    def height(self) -> float:
        return self.lane_y(max(len(self.lanes), 1)) + (1.0 if self.thin else 6.0)

    def lane_y(self, place: int) -> float:
        """Return where a lane begins below the top of the row."""
        return (0.0 if self.thin else 3.0) + place * (self.lane_height + (1.0 if self.thin else 2.0))

    def lane_label(self, place: int) -> str:
        return _tail(self.lanes[place].name, LETTERS_LANE) if len(self.lanes) > 1 else ""


def rows_of(hosts: Sequence[HostOutcome], end_s: float, fleet: int) -> tuple[Row, ...]:
    """Return the rows of a wave, in its order; `fleet` is the number of hosts in the run."""
    turned = [host for host in hosts if host.turn]
    rest = [host for host in hosts if not host.turn]
    crowded = fleet > NAMED and len(turned) > 1
    return (*(_row(host, end_s, fleet, crowded) for host in turned), *_left(rest))


def _row(host: HostOutcome, end_s: float, fleet: int, crowded: bool) -> Row:
    assert host.turn is not None
    found = lanes(host.turn, end_s)
    thin = crowded and host.status.good
    shown = found if fleet <= SPACIOUS else (merged(found),)
    failed = [event for event in host.turn.events if event.phase == "failed"]
    last_s = end_s if host.turn.ended_s is None else host.turn.ended_s
    return Row(
        name=host.name,
        label="" if thin else _short(host.name, LETTERS_BESIDE if len(shown) > 1 else LETTERS),
        status="" if host.status is HostStatus.HEALTHY else str(host.status),
        note=_note(host),
        lanes=shown,
        outages=outages(found),
        failures=tuple(
            (min(max(event.at_s, host.turn.began_s), max(last_s, host.turn.began_s)), f"{host.name}: {event.detail}")
            for event in failed
        ),
        lane_height=THIN if thin else TALL,
        thin=thin,
        tone=tone(host.status),
    )


def _note(host: HostOutcome) -> str:
    """Say how long a host was out of service."""
    out = out_words(host)
    return "never out" if out == "none" else f"out {out}" if out else ""


def _left(hosts: Sequence[HostOutcome]) -> Iterator[Row]:
    """Yield one row for all hosts of a wave that did not get their turn, or as they failed before it."""
    for status in dict.fromkeys(host.status for host in hosts):
        found = [host.name for host in hosts if host.status is status]
        label = _short(found[0], LETTERS) if len(found) == 1 else counted(len(found), "host")
        name = names(found)
        yield Row(name=name, label=label, status=f"{status}", note="", tone=tone(status))


def _short(name: str, letters: int) -> str:
    return name if len(name) <= letters else f"{name[: letters - 1]}…"


def _tail(name: str, letters: int) -> str:
    """Shorten the name of an instance, whose number at its end tells it from its neighbours."""
    return name if len(name) <= letters else f"…{name[1 - letters :]}"
