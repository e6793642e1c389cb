"""Where a rollout stands: who may begin now, and whether anybody may begin at all. Nothing but counting."""

from collections.abc import Collection, Iterable, Mapping

from rackhand.rollout.budget import Failure, exhausted
from rackhand.rollout.capacity import Capacity, takes_out
from rackhand.rollout.intent import Intent, Result
from rackhand.rollout.policy import Policy


class Standing:
    """Counts turns as they begin and end; `canary` are the hosts whose failure always stops the rollout.

    `out` are the hosts that have servers out of service: those in their turn, and those whose turn did not bring back
    what they served. `aside` are hosts that take no part, and have models all the same.
    """

    def __init__(
        self, policy: Policy, intents: Mapping[str, Intent], canary: Collection[str], aside: Iterable[Intent] = ()
    ) -> None:
        self.policy = policy
        self.intents = intents
        self.canary = canary
        self.capacity = Capacity.of(policy, intents.values(), aside)
        self.failures: list[Failure] = []
        self.out: set[str] = set()
        self.unproven: set[str] = set()
        self._stalled = ""

    @property
    def stopped(self) -> str:
        """Why no further host may begin, in one sentence; empty while the rollout goes on."""
        return exhausted(self.failures, self.policy.max_failures) or self._stalled

    def failed(self, name: str, how: str) -> None:
        """Count a failure of a host that had no turn."""
        self.failures.append(Failure(host=name, how=how, canary=name in self.canary))

    def doubt(self, name: str) -> None:
        """Count a host that changes nothing as serving nothing until `proved`."""
        self.unproven.add(name)
        self.capacity = self.capacity.unproven(self.intents[name])

    def proved(self, name: str, result: Result) -> None:
        self.unproven.discard(name)
        self.capacity = self.capacity.proven(result.serves)
        if not result.good:
            self.failed(name, result.how or "failed")

    def may_begin(self, name: str) -> bool:
        """Tell whether a host may begin its turn now."""
        intent = self.intents[name]
        if self.stopped or not self.capacity.fits(intent):
            return False
        most = self.policy.max_out
        return most is None or len(self.out) < most or not takes_out(self.capacity, intent)

    def begun(self, name: str) -> None:
        intent = self.intents[name]
        if takes_out(self.capacity, intent):
            self.out.add(name)
        self.capacity = self.capacity.begun(intent)

    def ended(self, name: str, result: Result) -> None:
        intent = self.intents[name]
        self.capacity = self.capacity.ended(intent, result)
        if result.good or sum(result.serves.values()) >= sum(intent.serves.values()):
            self.out.discard(name)
        if not result.good:
            self.failed(name, result.how or "failed")

    def stall(self, waiting: str) -> None:
        """Stop because a host waits for something that nobody is left to bring about."""
        intent = self.intents[waiting]
        if short := self.capacity.short(intent):
            have = self.capacity.healthy.get(short[0], 0)
            servers = "server" if have == 1 else "servers"
            why = f"{short[0]} has {have} healthy {servers} and rollout_min_replicas is {self.policy.min_replicas}"
        else:
            why = f"{', '.join(sorted(self.out))} did not come back and rollout_max_out is {self.policy.max_out}"
        self._stalled = f"{waiting} may not go out of service: {why}"
