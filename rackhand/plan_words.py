"""Say a plan to a person: what will happen, why so, what it takes, what else could be had. Pure."""

from collections.abc import Iterator

from rackhand import gpu_modes
from rackhand.arrangement import Arrangement
from rackhand.fitting.terms import MEASURED, Forecast
from rackhand.plan import DriverPlan, Instance, PlannedGpu, Setting
from rackhand.seen import cards
from rackhand.settings import Settings
from rackhand.survey import Survey
from rackhand.wishes import Wishes

OWN_WORDS = "serve_options"
TERMS = {
    "weights": "weights",
    "activation": "activation",
    "cuda_graphs": "CUDA graphs",
    "non_torch": "outside torch",
    "kv_cache": "KV cache",
}


def words(
    survey: Survey, wishes: Wishes, driver: DriverPlan, arranged: Arrangement, found: tuple[PlannedGpu, ...]
) -> Iterator[str]:
    """Yield the plan line by line."""
    yield f"{survey.host.pretty}, {cards(found)}"
    yield from driver.words
    yield from _modes(survey, wishes.settings)
    yield _engine(survey, wishes)
    yield _weights(survey, wishes)
    yield from arranged.reasons
    yield from dict.fromkeys(line for instance in arranged.instances for line in _numbers(instance))
    running = {unit.name: unit for unit in survey.state.instances}
    for instance in arranged.instances:
        where = ", ".join(found[position].address for position in instance.gpus)
        serving = running.get(instance.name)
        now = "running" if serving and serving.active == "active" else "to be started"
        yield f"vllm@{instance.name} on {wishes.settings.serve_host}:{instance.port}, GPU {where}: {now}"
    yield from (f"left out: {line}" for line in arranged.left_out)
    yield from (f"warning: {line}" for line in arranged.warnings)


def _modes(survey: Survey, settings: Settings) -> Iterator[str]:
    """Say how GPUs would be set that are not so."""
    modes = gpu_modes.wished(survey, settings)
    found = [*gpu_modes.words(gpu_modes.differing(survey, modes)), *gpu_modes.pending(survey, modes)]
    if not found:
        return
    waits = gpu_modes.pending(survey, modes) or gpu_modes.resetting(survey, modes)
    after = ", and then a reboot" if waits and settings.driver_reboot_allowed else ""
    yield f"GPUs to be set: {', '.join(found)}{after}"


def bill(forecast: Forecast) -> str:
    """Say the memory bill of one GPU in a line: MiB, tokens and sequences."""
    parts = ", ".join(f"{forecast.mib(name):,.0f} {text}" for name, text in TERMS.items())
    measured = "; as engines reported here" if any(term.source == MEASURED for term in forecast.terms) else ""
    return (
        f"of {forecast.allowed_mib:,.0f} MiB per GPU: {parts}; {forecast.kv_tokens:,} tokens, "
        f"{forecast.sequences:,.1f} sequences of {forecast.context:,} at once{measured}"
    )


def _numbers(instance: Instance) -> Iterator[str]:
    if instance.forecast is not None:
        yield bill(instance.forecast)
    yield from (
        f"{setting.name} {setting.value}: {setting.reason}" for setting in instance.settings if not _theirs(setting)
    )
    # Values of the user's own options may be long, and nobody has to be told them.
    if theirs := [setting.name for setting in instance.settings if _theirs(setting)]:
        yield f"as serve_options say: {', '.join(theirs)}"


def _theirs(setting: Setting) -> bool:
    return setting.reason == OWN_WORDS


def _engine(survey: Survey, wishes: Wishes) -> str:
    built = survey.state.venv.digest == wishes.venv
    what = (
        "environment is built" if built else f"build environment {wishes.venv} ({wishes.settings.engine_requirements})"
    )
    return f"vLLM {wishes.settings.engine_version}: {what}"


def _weights(survey: Survey, wishes: Wishes) -> str:
    there = survey.state.model.files and survey.state.model_intact
    size = f"{max(1, wishes.total_bytes >> 20)} MiB, " if wishes.total_bytes else ""
    what = "weights are here" if there else f"bring weights ({size}{wishes.weights.source})"
    return f"{wishes.settings.model_name}: {what}"
