"""The planner: what a host is and what is wished of it, in; a plan or every reason against one, out. Pure."""

from collections.abc import Callable, Iterator
from typing import TypeVar

from rackhand import checks
from rackhand.catalog import branch_of, driver_packages
from rackhand.errors import RackhandError
from rackhand.layout.simple import Layout, lay_out
from rackhand.outcome import Problem
from rackhand.plan import DriverPlan, Plan, PlannedGpu, Refusal
from rackhand.seen import cards, gpus, has_fabric
from rackhand.settings import Settings
from rackhand.survey import Survey
from rackhand.wishes import Wishes

T = TypeVar("T")
START_BASE_S = 600
LOAD_MIB_PER_S = 150


def plan(host: str, survey: Survey, wishes: Wishes) -> Plan | Refusal:
    """Plan one host; a Refusal holds every reason at once, not only the first."""
    found = gpus(survey)
    reasons = [*checks.system(host, survey, wishes), *checks.hardware(host, survey, found, wishes.settings)]
    driver = _or_reason(reasons, lambda: _driver(survey, wishes.settings, host))
    layout = _or_reason(reasons, lambda: lay_out(host, found, wishes)) if found and not reasons else None
    if layout is not None:
        reasons += checks.ports(host, survey, layout.instances)
    if reasons or driver is None or layout is None:
        return Refusal(host=host, cards=cards(found), reasons=tuple(reasons))
    return Plan(
        host=host,
        gpus=found,
        cards=cards(found),
        driver=driver,
        engine_version=wishes.settings.engine_version,
        venv=wishes.venv,
        model=wishes.weights.id,
        instances=layout.instances,
        start_timeout_s=wishes.settings.gate_start_timeout_s or start_timeout_s(wishes.weights.weight_bytes),
        words=tuple(_words(survey, wishes, driver, layout, found)),
    )


def start_timeout_s(weight_bytes: int) -> int:
    """Allow ten minutes (vLLM's own limit for its engine) plus the time to read the weights from a slow disk."""
    return START_BASE_S + (weight_bytes >> 20) // LOAD_MIB_PER_S


def _or_reason(reasons: list[Problem], make: Callable[[], T]) -> T | None:
    try:
        return make()
    except RackhandError as error:
        reasons.append(Problem.of(error))
        return None


def _driver(survey: Survey, settings: Settings, host: str) -> DriverPlan:
    """Decide the driver's version; raises RackhandError where the distribution or the installed driver rules it out."""
    if not settings.driver_manage:
        if survey.nvml.state != "ok":
            raise RackhandError(
                "driver-not-ready",
                f"driver_manage is False and NVML says {survey.nvml.state}: {survey.nvml.detail}",
                host,
                "repair the driver, or let rackhand manage it",
            )
        return DriverPlan(version=survey.nvml.driver, packages=None)
    facts = survey.host
    try:
        packages = driver_packages(
            facts.distribution, facts.version, settings.driver_branch, has_fabric(survey), facts.architecture
        )
    except RackhandError as error:
        raise RackhandError(error.code, error.what, host, error.next_step) from None
    return DriverPlan(version=settings.driver_version or _kept(survey, settings) or packages.latest, packages=packages)


def _kept(survey: Survey, settings: Settings) -> str | None:
    """Keep a working driver of the wished branch: a newer catalogue alone must not reboot a fleet."""
    loaded = survey.driver.loaded
    return loaded if loaded and survey.driver.ready and branch_of(loaded) == settings.driver_branch else None


def _words(
    survey: Survey, wishes: Wishes, driver: DriverPlan, layout: Layout, found: tuple[PlannedGpu, ...]
) -> Iterator[str]:
    settings, state = wishes.settings, survey.state
    yield f"{survey.host.pretty}, {cards(found)}"
    yield _driver_words(survey, driver)
    yield f"vLLM {settings.engine_version}: " + (
        "environment is built"
        if state.venv.digest == wishes.venv
        else f"build environment {wishes.venv} ({settings.engine_requirements})"
    )
    size = f"{max(1, wishes.weights.total_bytes >> 20)} MiB, " if wishes.weights.files else ""
    yield f"{settings.model_name}: " + (
        "weights are here"
        if state.model.files and state.model_intact
        else f"bring weights ({size}{wishes.weights.source})"
    )
    yield layout.reason
    running = {unit.name: unit for unit in state.instances}
    for instance in layout.instances:
        where = ", ".join(found[position].address for position in instance.gpus)
        serving = running.get(instance.name)
        now = "running" if serving and serving.active == "active" else "to be started"
        yield f"vllm@{instance.name} on {settings.serve_host}:{instance.port}, GPU {where}: {now}"


def _driver_words(survey: Survey, driver: DriverPlan) -> str:
    loaded = survey.driver.loaded
    if driver.packages is None:
        return f"driver {driver.version}: verified, not managed"
    if loaded == driver.version and survey.driver.ready:
        return f"driver {driver.version}: installed and loaded"
    before = f" (loaded now: {loaded})" if loaded else ""
    fabric = " with the fabric manager for its NVSwitches" if has_fabric(survey) else ""
    return f"driver {driver.version}{fabric}: install, pin and hold{before}; reboot"
