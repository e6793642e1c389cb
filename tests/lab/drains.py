"""What turns did to the requests of clients: the hosts' own account of their turns, held against the clients'."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rackhand.lab.host import LabHost
from tests.lab.load import Asked

EVENTS = "opt/rackhand/turn/events.jsonl"
AROUND_S = 2.0


@dataclass(frozen=True, kw_only=True)
class Moment:
    """One event of a host's last turn; `at` in seconds since the epoch."""

    host: str
    at: float
    phase: str
    instance: str


@dataclass(frozen=True, kw_only=True)
class Passage:
    """The requests of a run, and what its turns did meanwhile."""

    asked: Sequence[Asked]
    moments: Sequence[Moment]

    def lost(self) -> list[str]:
        """Describe each request that failed, with what happened around it."""
        return [self._told(each) for each in self.asked if each.failure]

    def served_by(self, version: str) -> int:
        """Count the requests that a version answered."""
        return sum(each.served.startswith(f"vllm-{version}-") for each in self.asked)

    def at(self, phase: str, host: str, instance: str) -> float:
        """Return when an instance last came to a phase."""
        wanted = (phase, host, instance)
        return max(each.at for each in self.moments if (each.phase, each.host, each.instance) == wanted)

    def met(self, host: str, instance: str, port: int) -> list[Asked]:
        """Return the streams that an instance was in the midst of when its drain began."""
        begun = self.at("drain", host, instance)
        here = [each for each in self.asked if each.kind.stream and each.served.endswith(f"-{host}:{port}")]
        return [each for each in here if each.began < begun < each.ended]

    def _told(self, lost: Asked) -> str:
        near = [each for each in self.moments if lost.began - AROUND_S < each.at < lost.ended + AROUND_S]
        around = ", ".join(f"{each.host} {each.instance} {each.phase} {each.at - lost.began:+.2f}" for each in near)
        what = f"{'stream' if lost.kind.stream else 'plain'} of {lost.kind.tokens} tokens at {lost.began:.2f}"
        return f"{what} after {lost.ended - lost.began:.2f} s: {lost.failure} (around it: {around})"


def moments(hosts: Sequence[LabHost], since: float) -> list[Moment]:
    """Read what hosts tell of turns since then, in the order in which it happened."""
    return sorted((each for host in hosts for each in _told(host) if each.at > since), key=lambda each: each.at)


def _told(host: LabHost) -> Iterator[Moment]:
    for line in (host.rootfs / EVENTS).read_text().splitlines():
        event = json.loads(line)
        yield Moment(host=host.name, at=event["at"], phase=event["phase"], instance=event["instance"])
