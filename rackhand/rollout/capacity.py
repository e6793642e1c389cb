"""Who may go out of service now, so that enough servers of every model stay healthy. Pure.

A host that serves nothing takes nothing out. A host that serves changes its servers few at a time, so only those count
as out while its turn lasts; all of them do where they must go together (a reboot, another layout). A host that came
back from its turn counts with what it then serves.

"auto" keeps one server healthy wherever another host has the model, too; a host that lost its servers in its turn is
still one that has it. The last host of a model may go.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from rackhand.errors import RackhandError
from rackhand.rollout.intent import Intent, Result
from rackhand.rollout.policy import Policy

Replicas = Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class Capacity:
    """What is healthy now, by model; `holders` counts the hosts that have a model, healthy or not.

    `kept` are the models that somebody serves at the end of the run: others are on their way out by intention.
    """

    policy: Policy
    healthy: Replicas = field(default_factory=dict)
    holders: Replicas = field(default_factory=dict)
    kept: frozenset[str] = frozenset()

    @classmethod
    def of(cls, policy: Policy, intents: Iterable[Intent], aside: Iterable[Intent] = ()) -> "Capacity":
        """Count what hosts serve before the first turn; `aside` are those that take no part in the rollout."""
        known = (*intents, *aside)
        healthy = _sum(intent.serves for intent in known)
        holders = _sum(intent.models for intent in known)
        after = _sum(intent.will_serve if intent.disturbs else intent.serves for intent in known)
        return cls(policy=policy, healthy=healthy, holders=holders, kept=frozenset(after))

    def fits(self, intent: Intent) -> bool:
        """Tell whether a host may begin its turn now."""
        return not any(self.short(intent))

    def short(self, intent: Intent) -> list[str]:
        """Return the models of which too few servers would stay healthy if this host began now."""
        low, least = self.during(intent), self.least(intent)
        gone = {model: count - low.get(model, 0) for model, count in intent.serves.items()}
        return [model for model, out in gone.items() if out and self.healthy.get(model, 0) - out < least[model]]

    def least(self, intent: Intent) -> Replicas:
        """Return how many servers of each of the host's models must stay healthy while it has its turn."""
        wished = self.policy.min_replicas
        if wished == "auto":
            others = {model: self.holders.get(model, 0) - 1 for model, count in intent.serves.items() if count}
            return {model: int(others.get(model, 0) > 0) for model in intent.serves}
        return {model: wished if model in self.kept else 0 for model in intent.serves}

    def during(self, intent: Intent) -> Replicas:
        """Return how many of the host's servers stay healthy at any moment of its turn, at least."""
        if intent.whole:
            return {}
        stay = {model: min(count, intent.will_serve.get(model, 0)) for model, count in intent.serves.items()}
        return {model: max(0, count - self.policy.instances_at_once) for model, count in stay.items()}

    def begun(self, intent: Intent) -> "Capacity":
        return self._moved(intent.serves, self.during(intent))

    def ended(self, intent: Intent, result: Result) -> "Capacity":
        """Count what a host serves after its turn; one that failed still has what it served before."""
        after = self._moved(self.during(intent), result.serves)
        has = result.serves if result.good else {**result.serves, **intent.models}
        return replace(after, holders=_sum([after.holders, _one_each(has)], [intent.models]))

    def unproven(self, intent: Intent) -> "Capacity":
        """Leave out the servers of a host that changes nothing until the gate has passed them."""
        return self._moved(intent.serves, {})

    def proven(self, serves: Replicas) -> "Capacity":
        return self._moved({}, serves)

    def _moved(self, before: Replicas, after: Replicas) -> "Capacity":
        return replace(self, healthy=_sum([self.healthy, after], [before]))


def takes_out(capacity: Capacity, intent: Intent) -> bool:
    """Tell whether any server goes out of service in this host's turn."""
    low = capacity.during(intent)
    return any(count > low.get(model, 0) for model, count in intent.serves.items())


def check(capacity: Capacity, intents: Mapping[str, Intent], waves: Sequence[Sequence[str]]) -> None:
    """Go through the waves as if everything went well, one host at a time.

    Raises RackhandError `capacity` where a wave holds a host that could never begin.
    """
    for wave in waves:
        waiting = list(wave)
        while waiting:
            name = next((name for name in waiting if capacity.fits(intents[name])), None)
            if name is None:
                raise _impossible(capacity, waiting[0], intents[waiting[0]])
            waiting.remove(name)
            done = Result(good=True, serves=intents[name].will_serve)
            capacity = capacity.begun(intents[name]).ended(intents[name], done)


def _impossible(capacity: Capacity, name: str, intent: Intent) -> RackhandError:
    model = capacity.short(intent)[0]
    have, out = capacity.healthy.get(model, 0), intent.serves[model] - capacity.during(intent).get(model, 0)
    together = " together" if intent.whole and out > 1 else ""
    what = (
        f"{have} healthy {_servers(have)} of {model} can be had, the turn of {name} takes out {out}{together}, "
        f"and rollout_min_replicas is {capacity.policy.min_replicas}"
    )
    stay = max(0, have - out)
    step = f'set rollout_min_replicas to at most {stay} or to "auto", or add a host'
    if capacity.policy.min_replicas == "auto":
        step = f"bring other servers of {model} into service first (rackhand status), or set rollout_min_replicas to 0"
    return RackhandError("capacity", what, name, step)


def _servers(count: int) -> str:
    return "server" if count == 1 else "servers"


def _one_each(replicas: Replicas) -> Replicas:
    return {model: 1 for model, count in replicas.items() if count}


def _sum(more: Iterable[Replicas], less: Iterable[Replicas] = ()) -> Replicas:
    total: dict[str, int] = {}
    for sign, group in ((1, more), (-1, less)):
        for replicas in group:
            for model, count in replicas.items():
                total[model] = total.get(model, 0) + sign * count
    return {model: count for model, count in total.items() if count}
