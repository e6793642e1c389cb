"""What a host wants of the rollout and what came of it: the words between the conductor and the steps of a host."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Member:
    """One host that was chosen for the run; `present` is False where it cannot take part, `how` says then why not.

    `how` is a word or two, such as "unreachable" or "failed".
    """

    name: str
    groups: tuple[str, ...] = ()
    present: bool = True
    how: str = "failed"


@dataclass(frozen=True, kw_only=True)
class Intent:
    """What a host wants to do; replicas are counted by the name under which clients ask for the model.

    `disturbs` says that something changes, so the host needs a turn. `serves` are its healthy replicas now,
    `will_serve` those after its turn, `has` those of its release, healthy or not. `whole` says that all of its servers
    go out of service together (a reboot, another layout).
    """

    disturbs: bool
    serves: Mapping[str, int] = field(default_factory=dict)
    will_serve: Mapping[str, int] = field(default_factory=dict)
    has: Mapping[str, int] = field(default_factory=dict)
    whole: bool = False

    @property
    def models(self) -> Mapping[str, int]:
        """Return 1 for each model that the host has, healthy or not."""
        return {model: 1 for model, count in {**self.has, **self.serves}.items() if count}


@dataclass(frozen=True, kw_only=True)
class Result:
    """How the work on a host ended; `serves` are its healthy replicas now. `how` is one or two words, such as
    "failed" or "rolled back"; empty where it went well."""

    good: bool
    serves: Mapping[str, int] = field(default_factory=dict)
    how: str = ""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the conductor tells a host's operation.

    `admitted` is False where the host's work never began; `reason` is then one sentence. `wave` counts from 1; it is 0
    where no turn was needed. Times are seconds since the run began. `result` is None where the host was not admitted.
    """

    admitted: bool
    wave: int = 0
    began_s: float = 0.0
    ended_s: float = 0.0
    reason: str = ""
    result: Result | None = None
