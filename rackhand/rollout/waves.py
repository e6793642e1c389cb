"""Which hosts change together, and in which order. Pure.

Only hosts that change are dealt into waves, so that the first of them always goes alone, whichever part of a fleet a
run concerns, and running again begins where the last run ended.

The first size is the canary's. Where hosts or groups are named in `rollout_canary`, the first wave is exactly those of
them that change, and the first size is not used; where none of them changes, it is as if none were named. The other
sizes follow, the last one repeats. A percentage is one of all hosts of the run, rounded down, at least one host.
"""

import difflib
from collections.abc import Collection, Iterator, Sequence

from rackhand.errors import RackhandError
from rackhand.rollout.intent import Member
from rackhand.rollout.policy import Policy

Waves = tuple[tuple[str, ...], ...]
EVERYBODY = "100%"


def plan_waves(changing: Collection[str], fleet: Sequence[Member], policy: Policy) -> Waves:
    """Deal the hosts that change into waves; `fleet` is everyone of this run in inventory order."""
    order = [member.name for member in fleet if member.name in changing]
    first, *later = policy.waves or (EVERYBODY,)
    canary = [name for name in canaries(fleet, policy.canary) if name in changing]
    head = canary or order[: _hosts(first, len(fleet))]
    chosen = set(head)
    tail = [name for name in order if name not in chosen]
    waves = [head, *_dealt(tail, [_hosts(size, len(fleet)) for size in later or [first]])]
    return tuple(tuple(wave) for wave in waves if wave)


def canaries(fleet: Sequence[Member], names: Collection[str]) -> tuple[str, ...]:
    """Return the hosts of this run that are named as canaries, by their own name or by a group."""
    return tuple(member.name for member in fleet if any(_is(member, name) for name in names))


def refuse_unknown(names: Collection[str], inventory: Sequence[Member]) -> None:
    """Raise RackhandError `settings` for a canary that is neither a host nor a group of the whole inventory."""
    known = dict.fromkeys(word for member in inventory for word in (_short(member.name), *member.groups))
    for name in names:
        if not any(_is(member, name) for member in inventory):
            near = difflib.get_close_matches(name, known, n=1)
            hint = f" (did you mean '{near[0]}'?)" if near else ""
            what = f"rollout_canary names '{name}', which is no host and no group of the inventory{hint}"
            raise RackhandError("settings", what, "rollout_canary", "correct it in group_data/all.py or the inventory")


def _is(member: Member, name: str) -> bool:
    return name in (member.name, _short(member.name)) or name in member.groups


def _short(name: str) -> str:
    """Return a host's name without its connector: rack1 for @lab/rack1."""
    return name.rpartition("/")[2] if name.startswith("@") else name


def _hosts(size: int | str, fleet: int) -> int:
    return size if isinstance(size, int) else max(1, fleet * int(size.removesuffix("%")) // 100)


def _dealt(names: Sequence[str], sizes: Sequence[int]) -> Iterator[Sequence[str]]:
    place, number = 0, 0
    while place < len(names):
        size = sizes[min(number, len(sizes) - 1)]
        yield names[place : place + size]
        place, number = place + size, number + 1
