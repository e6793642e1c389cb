"""How many hosts may fail before no further host begins. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

NAMED = 3  # failed hosts that a sentence names


@dataclass(frozen=True, kw_only=True)
class Failure:
    """One host that failed before its turn or in it; `how` is a word such as "unreachable" or "rolled back"."""

    host: str
    how: str
    canary: bool = False


def exhausted(failures: Sequence[Failure], most: int) -> str:
    """Return in one sentence why no further host may begin; empty while the budget holds (`most` hosts may fail)."""
    canary = [failure for failure in failures if failure.canary]
    if canary:
        return f"the canary failed: {_listed(canary)}"
    if len(failures) <= most:
        return ""
    count = f"{len(failures)} hosts" if len(failures) > 1 else "1 host"
    return f"{count} failed and rollout_max_failures is {most}: {_listed(failures)}"


def _listed(failures: Sequence[Failure]) -> str:
    names = [f"{failure.host} ({failure.how})" for failure in failures[:NAMED]]
    more = len(failures) - NAMED
    return ", ".join([*names, f"and {more} more"] if more > 0 else names)
