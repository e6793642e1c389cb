"""What a step is, and how one is looked at, carried out and blamed on one host, whoever calls it."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from traceback import extract_tb

import click

from rackhand.errors import RackhandError
from rackhand.outcome import Problem, StepOutcome
from rackhand.run import HostRun

# Where pyinfra writes, so that our lines stand among its own.
logger = logging.getLogger("pyinfra")
EVIDENCE = 8  # quoted lines that a person sees at once; the report has all


@dataclass(frozen=True, kw_only=True)
class Change:
    """What a step wants to do, in words, and the doing; `apply` raises RackhandError when it fails.

    `together` says that all servers of the host go out of service at the same time.
    """

    summary: str
    apply: Callable[[], None]
    together: bool = False


Step = Callable[[HostRun], Change | None]


def decide(step: Step, host: HostRun) -> Change | None:
    """Ask a step what it would change; raises what keeps the host from being changed at all, once that is wanted."""
    if not host.ready:
        if not host.live:
            return None
        first = (*host.problems, *(host.refusal.reasons if host.refusal else ()))[0]
        raise RackhandError(first.code, first.what, first.where, first.next_step, first.evidence)
    return step(host)


def carry_out(host: HostRun, title: str, change: Change, begun: float) -> Exception | None:
    """Do what a step wants and write that down; return how it failed, if it did."""
    failure: Exception | None = None
    try:
        if host.lost:
            raise host.lost
        change.apply()
    except Exception as error:
        failure = error
    host.changed()
    host.ended = time.monotonic()
    # A step that failed may have changed something before it did: the report must not say that nothing changed.
    host.steps.append(done(title, f"{change.summary}: failed" if failure else change.summary, begun))
    return failure


def done(title: str, summary: str | None, begun: float) -> StepOutcome:
    """Describe a step that is over; without a summary it changed nothing."""
    seconds = round(time.monotonic() - begun, 1)
    return StepOutcome(name=title, changed=summary is not None, summary=summary or "", seconds=seconds)


def blame(host: HostRun, title: str, error: Exception) -> None:
    """Put a failure into the report and onto the terminal."""
    problem = explain(host, error)
    if problem not in host.problems and not host.refusal:
        host.problems.append(problem)
    host.ended = time.monotonic()
    logger.error(f"    {click.style(title, 'red')} {line(problem)}")
    for quoted in problem.evidence[-EVIDENCE:]:
        logger.error(f"        {quoted}")


def explain(host: HostRun, error: Exception) -> Problem:
    """Describe a failure; what is no RackhandError is a fault of ours, and its frames belong into the report."""
    if isinstance(error, RackhandError):
        return Problem.of(error)
    frames = [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in extract_tb(error.__traceback__)]
    what = f"rackhand failed: {type(error).__name__}: {error}"
    unexpected = RackhandError("internal", what, host.name, "report this with the lines below", tuple(frames[-6:]))
    return Problem.of(unexpected)


def line(problem: Problem) -> str:
    """Write a problem as people see it on a terminal."""
    return f"{problem.where}: {problem.what} [{problem.code}] → {problem.next_step}"
