"""The rules of a rollout, read from the settings of its hosts. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Literal

from rackhand.errors import RackhandError
from rackhand.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Policy:
    """The settings `rollout_*` without the prefix; group_data/all.py explains each."""

    canary: tuple[str, ...] = ()
    waves: tuple[int | str, ...] = (1, "25%")
    soak_s: int = 0
    max_out: int | None = None
    max_failures: int = 0
    min_replicas: Literal["auto"] | int = "auto"
    instances_at_once: int = 1


def agreed(settings: Mapping[str, Settings]) -> Policy:
    """Return the one policy of all hosts (name → settings, in inventory order).

    Raises RackhandError `settings` that names two hosts and the key where they differ.
    """
    rules = {name: _policy(each) for name, each in settings.items()}
    first, policy = next(iter(rules.items()), ("", Policy()))
    for name, other in rules.items():
        for key in (field.name for field in fields(Policy)):
            if getattr(other, key) != getattr(policy, key):
                raise _differ(f"rollout_{key}", (first, getattr(policy, key)), (name, getattr(other, key)))
    return policy


def _policy(settings: Settings) -> Policy:
    return Policy(**{field.name: getattr(settings, f"rollout_{field.name}") for field in fields(Policy)})


def _differ(key: str, one: tuple[str, object], other: tuple[str, object]) -> RackhandError:
    what = f"{key} is {one[1]!r} on {one[0]} and {other[1]!r} on {other[0]}: one run has one rollout"
    return RackhandError(
        "settings", what, other[0], f"set {key} once, in group_data/all.py, or limit the run to one group"
    )
