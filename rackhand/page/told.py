"""What a run says of several hosts in the same words, told once with the names of all of them. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass

from rackhand.outcome import Difference, HostOutcome, Problem, RunOutcome
from rackhand.report_turns import untouched


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A problem or a warning, and everywhere that it is about."""

    problem: Problem
    places: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Change:
    """What the wished release has otherwise than the one before, and the hosts of which that is true."""

    differences: tuple[Difference, ...]
    hosts: tuple[str, ...]


def problems(run: RunOutcome) -> tuple[Finding, ...]:
    """Return what went wrong; hosts that a stopped rollout did not come to have nothing of their own to tell."""
    left = untouched(run)
    return _once((host, problem) for host in run.hosts if host not in left for problem in host.problems)


def warnings(run: RunOutcome) -> tuple[Finding, ...]:
    """Return what should be known."""
    return _once((host, warning) for host in run.hosts for warning in host.warnings)


def changes(run: RunOutcome) -> tuple[Change, ...]:
    """Return the differences between releases; where all hosts have the same, that is one."""
    found: dict[tuple[Difference, ...], list[str]] = {}
    for host in run.hosts:
        if host.differences:
            found.setdefault(host.differences, []).append(host.name)
    return tuple(Change(differences=same, hosts=tuple(hosts)) for same, hosts in found.items())


def _once(told: Iterable[tuple[HostOutcome, Problem]]) -> tuple[Finding, ...]:
    found: dict[tuple[str, str, str, tuple[str, ...]], tuple[Problem, list[str]]] = {}
    for host, problem in told:
        key = (problem.code, problem.what, problem.next_step, problem.evidence)
        where = problem.where if host.name in problem.where else f"{host.name}, {problem.where}"
        found.setdefault(key, (problem, []))[1].append(where)
    return tuple(Finding(problem=problem, places=tuple(places)) for problem, places in found.values())
