"""What each instance of a host went through in the host's turn, as spans of time. Pure; seconds since the run began."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from rackhand.outcome import TurnEvent, TurnOutcome


class Phase(StrEnum):
    """What an instance does during a span; the value is its colour's name on the page."""

    SERVING = "serving"
    DRAIN = "drain"
    STOP = "stop"
    SWITCH = "switch"
    HELD = "held"
    START = "start"
    GATE = "gate"
    RESTORE = "restore"
    DOWN = "down"
    ABSENT = "absent"
    TURN = "turn"

    @property
    def words(self) -> str:
        return _WORDS[self]

    @property
    def disturbed(self) -> bool:
        """Tell whether something is done to the instance."""
        return self not in (Phase.SERVING, Phase.ABSENT)


_WORDS = {
    Phase.SERVING: "in service",
    Phase.DRAIN: "drain",
    Phase.STOP: "stop",
    Phase.SWITCH: "switch of release",
    Phase.HELD: "held for driver or reboot",
    Phase.START: "engine start",
    Phase.GATE: "gate",
    Phase.RESTORE: "putting back the release before",
    Phase.DOWN: "nothing serves",
    Phase.ABSENT: "not running",
    Phase.TURN: "in its turn",
}
# From an event of an instance on, until its next.
_OWN = {
    "drain": Phase.DRAIN,
    "drained": Phase.STOP,
    "stop": Phase.STOP,
    "stopped": Phase.STOP,
    "freed": Phase.SWITCH,
    "start": Phase.START,
    "answering": Phase.GATE,
    "gated": Phase.GATE,
    "serving": Phase.SERVING,
}
_ENDS_WELL = ("accepted", "restored")
_ENDS_DOWN = ("lost", "stopped")


@dataclass(frozen=True, kw_only=True)
class Span:
    """One phase from its begin to its end."""

    phase: Phase
    begin_s: float
    end_s: float

    @property
    def seconds(self) -> float:
        return self.end_s - self.begin_s


@dataclass(frozen=True, kw_only=True)
class Lane:
    """One instance in its host's turn; spans touch and follow one another. `name` is empty for a host as a whole."""

    name: str
    spans: tuple[Span, ...]


def lanes(turn: TurnOutcome, end_s: float) -> tuple[Lane, ...]:
    """Return a lane for every instance that the turn's events name; `end_s` is where an open turn ends.

    Times that are not within the turn are moved to its edge: hosts' clocks may jump, the controller's does not.
    """
    end_s = max(turn.began_s, end_s if turn.ended_s is None else turn.ended_s)
    events = sorted((_within(event, turn.began_s, end_s) for event in turn.events), key=lambda event: event.at_s)
    if not events:
        return (Lane(name="", spans=_spans([(turn.began_s, Phase.TURN)], end_s)),)
    names = list(dict.fromkeys(event.instance for event in events if event.instance)) or [""]
    return tuple(Lane(name=name, spans=_spans([*_states(name, turn, events)], end_s)) for name in names)


def merged(found: Sequence[Lane]) -> Lane:
    """Return a host's lanes as one: what is done to it, or else whether it serves."""
    cuts = sorted({cut for lane in found for span in lane.spans for cut in (span.begin_s, span.end_s)})
    states = [(begin, _leading([_at(lane, begin) for lane in found])) for begin in cuts[:-1]]
    return Lane(name="", spans=_spans(states, cuts[-1]) if states else ())


def outages(found: Sequence[Lane]) -> tuple[tuple[float, float], ...]:
    """Return from when to when nothing of a host was in service; nothing for a host that did not serve before."""
    whole = [span for lane in found for span in lane.spans]
    if not any(lane.spans and lane.spans[0].phase is Phase.SERVING for lane in found):
        return ()
    serving = sorted((span.begin_s, span.end_s) for span in whole if span.phase is Phase.SERVING)
    gaps, until = [], min(span.begin_s for span in whole)
    for begin, end in [*serving, (max(span.end_s for span in whole),) * 2]:
        if begin > until:
            gaps.append((until, begin))
        until = max(until, end)
    return tuple(gaps)


def _within(event: TurnEvent, begin_s: float, end_s: float) -> TurnEvent:
    at_s = min(max(event.at_s, begin_s), end_s)
    return TurnEvent(at_s=at_s, phase=event.phase, instance=event.instance, detail=event.detail)


def _states(name: str, turn: TurnOutcome, events: Sequence[TurnEvent]) -> Iterator[tuple[float, Phase]]:
    """Yield when the instance came into which phase."""
    state, back = _before(name, turn, events), False
    yield turn.began_s, state
    for place, event in enumerate(events):
        back = back or event.phase in ("failed", "restoring")
        if event.instance == name and event.phase in _OWN:
            if state is Phase.SERVING and _OWN[event.phase] is Phase.GATE:
                continue  # it was left as it is, and is only asked whether it still answers
            state = Phase.RESTORE if back and _OWN[event.phase] is not Phase.SERVING else _OWN[event.phase]
            state = Phase.ABSENT if event.phase == "freed" and _retired(name, events[place + 1 :]) else state
        elif not event.instance or event.phase == "failed":
            state = _with_host(state, event.phase)
        yield event.at_s, state


def _before(name: str, turn: TurnOutcome, events: Sequence[TurnEvent]) -> Phase:
    """Return what the instance did when the turn began: one that was started first was not there."""
    first = next((event.phase for event in events if event.instance == name and event.phase in _OWN), "")
    return Phase.SERVING if turn.before and first not in ("start", "stop") else Phase.ABSENT


def _retired(name: str, later: Sequence[TurnEvent]) -> bool:
    """Tell whether the instance is none of the release that serves in the end."""
    well = any(event.phase in _ENDS_WELL for event in later)
    return well and not any(event.instance == name for event in later)


def _with_host(state: Phase, phase: str) -> Phase:
    """Return what an instance does after something happened to its host as a whole."""
    if phase == "unchanged":
        return Phase.SERVING if state is not Phase.ABSENT else state
    if phase in _ENDS_DOWN and state is not Phase.SERVING:
        return Phase.DOWN
    if phase == "held" and state is not Phase.SERVING:
        return Phase.HELD
    if phase == "switched" and state is Phase.HELD:
        return Phase.SWITCH
    return Phase.RESTORE if phase in ("failed", "restoring") and state.disturbed else state


def _spans(states: Sequence[tuple[float, Phase]], end_s: float) -> tuple[Span, ...]:
    """Join equal neighbours, and leave out what took no time."""
    spans: list[Span] = []
    for (begin, phase), (end, _) in zip(states, [*states[1:], (end_s, Phase.ABSENT)], strict=True):
        if end <= begin:
            continue
        if spans and spans[-1].phase is phase:
            begin = spans.pop().begin_s
        spans.append(Span(phase=phase, begin_s=begin, end_s=end))
    return tuple(spans)


def _at(lane: Lane, second: float) -> Span:
    return next(span for span in lane.spans if span.begin_s <= second < span.end_s)


def _leading(spans: Sequence[Span]) -> Phase:
    """Return the phase to show for all: what began last and disturbs an instance goes first, then service."""
    disturbed = [span for span in spans if span.phase.disturbed]
    if disturbed:
        return max(disturbed, key=lambda span: span.begin_s).phase
    return Phase.SERVING if any(span.phase is Phase.SERVING for span in spans) else Phase.ABSENT
