"""Where everybody is in a rollout: what is told of it folded into one value. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from rackhand.terminal import clean

LEAVING = ("drain", "stop")
GOING_BACK = ("failed", "restoring")
OVER = "closed"  # tells nothing that the end of the turn does not


@dataclass(frozen=True, kw_only=True)
class Turn:
    """A host in its turn. Times are those of the clock.

    `instances` are those in this phase, `left` those that went out of service in this turn. `back` says that something
    failed and what worked before is put back; `note` is what the host's wait says of itself meanwhile.
    """

    host: str
    began: float
    since: float
    phase: str = ""
    instances: tuple[str, ...] = ()
    detail: str = ""
    note: str = ""
    left: frozenset[str] = frozenset()
    back: bool = False

    def told(self, phase: str, instance: str, detail: str, now: float) -> "Turn":
        """Return the turn after a phase was told; instances that are told the same one after the other are together."""
        together = phase == self.phase and instance and self.instances
        left = self.left | {instance} if instance and phase in LEAVING else self.left
        if together:
            names = self.instances if instance in self.instances else (*self.instances, instance)
            return replace(self, instances=names, detail=detail, left=left)
        return replace(
            self,
            phase=phase,
            since=now,
            instances=(instance,) if instance else (),
            detail=detail,
            note="",
            left=left,
            back=self.back or phase in GOING_BACK,
        )


@dataclass(frozen=True, kw_only=True)
class Ended:
    """A host whose turn is over; `how` is empty where it went well."""

    host: str
    wave: int
    seconds: float
    how: str = ""


@dataclass(frozen=True, kw_only=True)
class BoardState:
    """All that a board shows but the time; every method returns the state after something was told."""

    waves: tuple[tuple[str, ...], ...] = ()
    number: int = 0
    turns: Mapping[str, Turn] = field(default_factory=dict)
    ended: tuple[Ended, ...] = ()
    soaks_until: float | None = None
    stopped: str = ""

    @classmethod
    def planned(cls, waves: Sequence[Sequence[str]]) -> "BoardState":
        return cls(waves=tuple(tuple(wave) for wave in waves))

    @property
    def hosts(self) -> int:
        return sum(len(wave) for wave in self.waves)

    @property
    def through(self) -> int:
        return sum(not each.how for each in self.ended)

    @property
    def failed(self) -> int:
        return len(self.ended) - self.through

    @property
    def waiting(self) -> int:
        """How many hosts have not begun."""
        return self.hosts - len(self.ended) - len(self.turns)

    def wave(self, number: int) -> "BoardState":
        return replace(self, number=number, soaks_until=None)

    def began(self, host: str, now: float) -> "BoardState":
        return replace(self, turns={**self.turns, host: Turn(host=host, began=now, since=now)})

    def told(self, host: str, phase: str, instance: str, detail: str, now: float) -> "BoardState":
        """Take over what a host says; of one that is not in its turn nothing is shown."""
        turn = self.turns.get(host)
        if turn is None or phase == OVER:
            return self
        return self._with(turn.told(clean(phase), clean(instance), clean(detail).strip(), now))

    def noted(self, host: str, note: str) -> "BoardState":
        """Take over what is happening within a phase; the phase itself says nothing more."""
        turn, words = self.turns.get(host), clean(note).strip()
        if turn is None or words == turn.phase:
            return self
        return self._with(replace(turn, note=words))

    def finished(self, host: str, how: str, now: float) -> "BoardState":
        turn = self.turns.get(host)
        if turn is None:
            return self
        end = Ended(host=host, wave=self.number, seconds=max(0.0, now - turn.began), how=clean(how))
        left = {name: each for name, each in self.turns.items() if name != host}
        return replace(self, turns=left, ended=(*self.ended, end))

    def soaking(self, seconds: float, now: float) -> "BoardState":
        return replace(self, soaks_until=now + seconds)

    def halted(self, why: str) -> "BoardState":
        return replace(self, stopped=clean(why), soaks_until=None)

    def _with(self, turn: Turn) -> "BoardState":
        # The same words told again are no news.
        return self if turn == self.turns[turn.host] else replace(self, turns={**self.turns, turn.host: turn})
