"""Ask one host and plan it as a deploy does; the plan or the refusal as an answer."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from rackhand import planner, wishes
from rackhand.arrangement import MEMORY_CODES
from rackhand.commands.alternatives import alternatives
from rackhand.commands.answer import Answer
from rackhand.commands.answering import Posed, blank, nearest
from rackhand.errors import RackhandError
from rackhand.outcome import Problem
from rackhand.plan import Plan, PlannedGpu, Refusal
from rackhand.seen import gpus
from rackhand.session import Session
from rackhand.wishes import Wishes


@dataclass(frozen=True, kw_only=True)
class HostVerdict:
    """One host: its plan or refusal as an answer, or the problem that kept it from one; `driver` is the planned one."""

    name: str
    answer: Answer | None = None
    driver: str = ""
    problem: Problem | None = None

    @property
    def status(self) -> str:
        if self.answer is not None:
            return "planned" if self.answer.fits else "refused"
        return "unreachable" if self.problem is not None and self.problem.code == "unreachable" else "failed"


def consider(session: Session) -> HostVerdict:
    """Survey a host, read-only, and plan it; raises RackhandError for wrong settings and lost connections."""
    data: dict[str, Any] = session.host.data.dict()  # type: ignore[no-untyped-call]
    wished = wishes.resolve(data, session.name)
    survey = wished.survey(session)
    return verdict(session.name, planner.plan(session.name, survey, wished), gpus(survey), wished)


def verdict(name: str, made: Plan | Refusal, found: tuple[PlannedGpu, ...], wished: Wishes) -> HostVerdict:
    """Return what the planner made of a host as an answer."""
    base = blank(wished.settings.model_name, wished.spec, found, wished.settings)
    if isinstance(made, Plan):
        answer = replace(
            base,
            gpus=made.gpus,
            instances=made.instances,
            forecast=made.instances[0].forecast if made.instances else None,
            words=(*made.reasons, *made.left_out),
            warnings=made.warnings,
        )
        return HostVerdict(name=name, answer=answer, driver=made.driver.version)
    answer = replace(base, reasons=made.reasons)
    if wished.spec is not None and found:
        posed = Posed(model=base.model, spec=wished.spec, gpus=found, settings=wished.settings)
        short = any(reason.code in MEMORY_CODES for reason in made.reasons)
        near = alternatives(posed) if short else ()
        answer = replace(answer, forecast=nearest(posed), alternatives=near)
    return HostVerdict(name=name, answer=answer)


def verdicts(answers: Mapping[str, HostVerdict | RackhandError]) -> tuple[HostVerdict, ...]:
    """Return one verdict per host, by name; a host that gave none has its problem."""
    return tuple(
        HostVerdict(name=name, problem=Problem.of(found)) if isinstance(found, RackhandError) else found
        for name, found in sorted(answers.items())
    )
