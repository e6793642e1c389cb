"""The planner: what a host is and what is wished of it, in; a plan or every reason against one, out. Pure."""

from collections.abc import Iterator
from dataclasses import replace

from rackhand import checks, crowded, gpu_modes, gpu_slices, hardware_metrics, nearest, truth, unfitted
from rackhand.arrangement import Arrangement
from rackhand.driver.verdict import verdict
from rackhand.fitting.known import Known, known
from rackhand.outcome import Problem
from rackhand.plan import DriverPlan, Plan, PlannedGpu, Refusal
from rackhand.plan_words import words
from rackhand.seen import cards, gpus, held_mib, inventory
from rackhand.survey import Survey
from rackhand.wishes import Wishes

START_BASE_S = 600
LOAD_MIB_PER_S = 150
# Where one of these is the reason, whether the model fits is no question.
SENSELESS = {"unknown-engine", "gpu-too-old", "gpu-lost", "gpu-not-in-nvml"}


def plan(host: str, survey: Survey, wishes: Wishes) -> Plan | Refusal:
    """Plan one host; a Refusal holds every reason at once, not only the first."""
    settings = wishes.settings
    found = gpus(gpu_slices.as_wished(survey, settings))
    reasons = [*checks.system(host, survey, wishes), *checks.hardware(host, survey, found, settings)]
    reasons += [*gpu_modes.refusals(host, survey, settings), *hardware_metrics.refusals(host, survey, settings)]
    driver = verdict(host, survey, settings)
    reasons += driver.problems
    past = known(survey.state.measured, wishes.weights.id)
    arranged = _arranged(host, found, wishes, past, {reason.code for reason in reasons})
    if isinstance(arranged, Arrangement):
        reasons += checks.ports(host, survey, arranged.instances)
        reasons += crowded.driven_out(host, survey, found, wishes, past, arranged)
    if reasons or driver.plan is None or not isinstance(arranged, Arrangement):
        fits = () if isinstance(arranged, Arrangement) else arranged
        return Refusal(host=host, cards=cards(found), reasons=tuple(dict.fromkeys((*reasons, *fits))))
    lost = truth.losses(survey.state, arranged.instances)
    odd = (*_seen(survey, found), *driver.plan.warnings)
    arranged = replace(arranged, warnings=(*odd, *wishes.warnings, *arranged.warnings, *lost))
    said = tuple(words(survey, wishes, driver.plan, arranged, found))
    return _plan(host, found, wishes, driver.plan, arranged, said)


def _plan(
    host: str,
    found: tuple[PlannedGpu, ...],
    wishes: Wishes,
    driver: DriverPlan,
    arranged: Arrangement,
    said: tuple[str, ...],
) -> Plan:
    settings = wishes.settings
    return Plan(
        host=host,
        gpus=found,
        cards=cards(found),
        driver=driver,
        engine_version=settings.engine_version,
        venv=wishes.venv,
        model=wishes.weights.id,
        instances=arranged.instances,
        start_timeout_s=settings.gate_start_timeout_s or start_timeout_s(wishes.weight_bytes),
        words=said,
        reasons=arranged.reasons,
        left_out=arranged.left_out,
        warnings=arranged.warnings,
    )


def _seen(survey: Survey, found: tuple[PlannedGpu, ...]) -> Iterator[str]:
    """Yield what is odd about a host and does not rule it out."""
    yield from inventory(survey).warnings
    for gpu in found:
        if gpu.free_mib is not None:
            yield f"{gpu.card} at {gpu.address}: other processes hold {held_mib(gpu):,} MiB of it"


def _arranged(
    host: str, found: tuple[PlannedGpu, ...], wishes: Wishes, past: Known, codes: set[str]
) -> Arrangement | tuple[Problem, ...]:
    """Arrange the model on the GPUs, as far as what is already refused leaves a sense in it."""
    if not found or codes & SENSELESS:
        return ()
    if wishes.spec is None and any(each.running for each in past):
        return (_forgotten(host, wishes.spec_unknown),)
    if wishes.spec is None:
        return unfitted.arrange(host, found, wishes.settings, wishes.spec_unknown)
    return nearest.arranged(host, found, wishes.spec, wishes.settings, past)


def _forgotten(host: str, why: str) -> Problem:
    """Refuse to plan blindly where the running release was planned by numbers: it would be taken down for a guess."""
    return Problem(
        code="model-forgotten",
        what=f"what runs here was fitted to this model, which cannot be looked up now: {why}",
        where=host,
        next_step="run again when the hub answers, or set model_path to a directory with the model",
    )


def start_timeout_s(weight_bytes: int) -> int:
    """Allow ten minutes (vLLM's own limit for its engine) plus the time to read the weights from a slow disk."""
    return START_BASE_S + (weight_bytes >> 20) // LOAD_MIB_PER_S
