"""What a run says of several hosts in the same words, told once with the names of all of them. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rackhand.health.policy import WORST_FIRST
from rackhand.health.telling import placed, weight
from rackhand.outcome import Difference, HostOutcome, Problem, RunOutcome, Severity
from rackhand.report_turns import untouched


@dataclass(frozen=True, kw_only=True)
class Told:
    """A problem or a warning, and everywhere that it is about."""

    problem: Problem
    places: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Health:
    """What the health check found on some hosts alike; `tone` is the name of a colour."""

    weight: str
    tone: str
    found: Told


@dataclass(frozen=True, kw_only=True)
class Change:
    """What the wished release has otherwise than the one before, and the hosts of which that is true."""

    differences: tuple[Difference, ...]
    hosts: tuple[str, ...]


def problems(run: RunOutcome) -> tuple[Told, ...]:
    """Return what went wrong; hosts that a stopped rollout did not come to have nothing of their own to tell."""
    left = untouched(run)
    return _once((host, problem) for host in run.hosts if host not in left for problem in host.problems)


def warnings(run: RunOutcome) -> tuple[Told, ...]:
    """Return what should be known."""
    return _once((host, warning) for host in run.hosts for warning in host.warnings)


def health(run: RunOutcome) -> tuple[Health, ...]:
    """Return what the health check found, what blocks first, then the worst."""
    kinds = [(blocks, severity) for blocks in (True, False) for severity in WORST_FIRST]
    return tuple(each for kind in kinds for each in _health(run.hosts, *kind))


def _health(hosts: Sequence[HostOutcome], blocks: bool, severity: Severity) -> list[Health]:
    alike = [
        (host, each)
        for host in hosts
        for each in placed(host.findings)
        if (each.blocks, each.severity) == (blocks, severity)
    ]
    tone = "bad" if blocks else "still" if severity is Severity.INFO else "back"
    return [Health(weight=weight(alike[0][1]), tone=tone, found=told) for told in _once(alike)]


def changes(run: RunOutcome) -> tuple[Change, ...]:
    """Return the differences between releases; where all hosts have the same, that is one."""
    found: dict[tuple[Difference, ...], list[str]] = {}
    for host in run.hosts:
        if host.differences:
            found.setdefault(host.differences, []).append(host.name)
    return tuple(Change(differences=same, hosts=tuple(hosts)) for same, hosts in found.items())


def _once(told: Iterable[tuple[HostOutcome, Problem]]) -> tuple[Told, ...]:
    found: dict[tuple[str, str, str, tuple[str, ...]], tuple[Problem, list[str]]] = {}
    for host, problem in told:
        key = (problem.code, problem.what, problem.next_step, problem.evidence)
        where = problem.where if host.name in problem.where else f"{host.name}, {problem.where}"
        found.setdefault(key, (problem, []))[1].append(where)
    return tuple(Told(problem=problem, places=tuple(places)) for problem, places in found.values())
