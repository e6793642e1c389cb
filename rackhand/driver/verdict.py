"""The verdict on a host's driver: what it should be and what that takes, or every reason against it. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from rackhand.catalog import DriverSet, branch
from rackhand.driver import activation, choice, modules, words
from rackhand.driver.activation import Way
from rackhand.driver.ground import Ground
from rackhand.driver.refusals import Case, refusals
from rackhand.driver.replaced import replaced
from rackhand.errors import RackhandError
from rackhand.outcome import Problem
from rackhand.plan import DriverPlan
from rackhand.remote.dpkg import upstream
from rackhand.seen import inventory
from rackhand.settings import Settings
from rackhand.survey import PROPRIETARY, Survey

CUT_OFF = {"apt": "dpkg", "dnf": "dnf"}


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A plan, or at least one problem; with problems the plan is not to be followed."""

    plan: DriverPlan | None
    problems: tuple[Problem, ...] = ()


def verdict(host: str, survey: Survey, settings: Settings) -> Verdict:
    """Decide the driver of one host."""
    try:
        return _managed(host, survey, settings) if settings.driver_manage else _verified(survey)
    except RackhandError as error:
        return Verdict(plan=None, problems=(Problem.of(RackhandError(error.code, error.what, host, error.next_step)),))


def _verified(survey: Survey) -> Verdict:
    if survey.nvml.state != "ok":
        raise RackhandError(
            "driver-not-ready",
            f"driver_manage is False and NVML says {survey.nvml.state}: {survey.nvml.detail}",
            "",
            "repair the driver, or let rackhand manage it",
        )
    version = survey.nvml.driver
    return Verdict(plan=DriverPlan(version=version, packages=None, words=words.unmanaged(version)))


def _managed(host: str, survey: Survey, settings: Settings) -> Verdict:
    packages = choice.packages(survey, settings)
    version = choice.version(survey, settings, packages)
    case = Case(host=host, survey=survey, settings=settings, packages=packages, version=version)
    wrong = [name for name in packages.install if upstream(survey.packages.installed.get(name, "")) != version]
    wrong += modules.missing(survey, packages)
    changes = bool(wrong) or not survey.driver.open_ready
    plan = DriverPlan(
        version=version,
        packages=packages,
        headers=tuple(_for_kernels(survey.ground, packages)),
        needs=modules.needed(survey.ground, packages, version),
        removes=tuple(replaced(survey.ground.packages, packages, version)) if wrong else (),
    )
    way = activation.decide(survey, plan, installs=bool(wrong))
    plan = replace(plan, stops=tuple(_stopped(survey, way.way is not Way.NOTHING)) if changes else ())
    said = words.words(case, inventory(survey), wrong, way, tuple(_lines(case, plan, wrong)))
    stops = (f"driver: {', '.join(plan.stops)} stop meanwhile",) if plan.stops else ()
    warned = (
        *words.warnings(branch(packages.branch), _today(survey.state.now)),
        *(() if changes else words.ahead(case)),
    )
    problems = tuple(refusals(case, installs=bool(wrong))) if changes else ()
    return Verdict(plan=replace(plan, words=(*said, *stops), warnings=warned), problems=problems)


def _stopped(survey: Survey, loads: bool) -> Iterator[str]:
    yield from (f"vllm@{unit.name}" for unit in survey.state.instances if unit.active == "active")
    yield from activation.stopped(survey) if loads else ()


def _for_kernels(ground: Ground, packages: DriverSet) -> Iterator[str]:
    """Yield the ready-built modules of the kernels, or else their headers and those of kernels that will follow."""
    known = [kernel for kernel in ground.kernels if kernel.package]
    if packages.module == "precompiled":
        for kernel in known:
            yield from packages.ready_built(kernel.release)
        return
    yield from (packages.headers(kernel.release) for kernel in known)
    last = [kernel for kernel in ground.kernels if kernel.meta or (kernel.package and kernel.next)]
    yield from dict.fromkeys(name for each in last if (name := packages.follows(each.release, each.meta)))


def _lines(case: Case, plan: DriverPlan, wrong: list[str]) -> Iterator[str]:
    """Yield what a change of the driver takes."""
    packages, wished = case.packages, branch(case.packages.branch)
    ends = f", supported until {wished.support_ends}" if wished.support_ends else ""
    yield f"driver: branch {wished.name} ({wished.kind}{ends}) with CUDA {wished.cuda}"
    yield f"driver packages, all {case.version}: {', '.join(packages.install)}"
    if beside := (*packages.beside, *plan.headers):
        yield f"driver packages beside them: {', '.join(beside)}"
    if case.survey.ground.packages and not set(packages.install) <= set(wrong):
        yield f"driver packages that do not fit the others now: {', '.join(wrong)}"
    if case.survey.ground.packages:
        stored = (
            "is stored here" if case.survey.driver_sets.installed else "is stored here first, as far as it can be had"
        )
        yield f"driver: what is installed now {stored}, so that the way back needs no network"
    if plan.removes:
        yield f"driver packages that go: {', '.join(plan.removes)}"
    if case.survey.driver.flavour == PROPRIETARY:
        yield "driver: the proprietary module makes way for the open one"
    if unfinished := case.survey.packages.unfinished:
        yield f"{CUT_OFF[packages.manager]} was cut off: {', '.join(unfinished[:5])} come first"


def _today(now: float) -> str:
    return datetime.fromtimestamp(now, UTC).date().isoformat() if now else ""
