"""What `rackhand fit` and `rackhand plan` answer, as frozen data and as JSON. Memory in MiB, lengths in tokens."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rackhand.fitting.terms import Forecast
from rackhand.models.spec import ModelSpec
from rackhand.outcome import Problem
from rackhand.picture.bars import Bar, bar
from rackhand.plan import Instance, PlannedGpu, Setting
from rackhand.report_json import problem_json

SCHEMA = "rackhand.fit/1"


@dataclass(frozen=True, kw_only=True)
class Alternative:
    """A change that brings a plan: `arguments` for the command line of `rackhand fit`, `settings` for a deploy."""

    what: str
    arguments: tuple[str, ...]
    settings: Mapping[str, Any]
    instances: int
    kv_tokens: int
    max_context: int


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A plan, or why there is none.

    `forecast` is the first instance's, or, without a plan, the bill of the nearest try; it is None where nothing could
    be tried. `spec` is None where what the model is cannot be known yet. `context` is what was asked for, None where
    the model's own is meant, "auto" where the longest that fits is.
    """

    model: str
    spec: ModelSpec | None
    gpus: tuple[PlannedGpu, ...]
    cards: str
    version: str
    preset: str
    context: int | Literal["auto"] | None
    instances: tuple[Instance, ...] = ()
    forecast: Forecast | None = None
    words: tuple[str, ...] = ()
    reasons: tuple[Problem, ...] = ()
    alternatives: tuple[Alternative, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def fits(self) -> bool:
        return bool(self.instances) and not self.reasons

    @property
    def settings(self) -> tuple[Setting, ...]:
        return self.instances[0].settings if self.instances else ()


def to_json(answer: Answer) -> dict[str, Any]:
    """Return the answer for programs; docs/reference/fit.md lists its fields."""
    return {"schema": SCHEMA, **facts(answer)}


def facts(answer: Answer) -> dict[str, Any]:
    """Return what the answer about one host's GPUs holds."""
    forecast = answer.forecast
    return {
        "fits": answer.fits,
        "model": _model(answer),
        "gpu": answer.cards,
        "gpus": [_gpu(gpu) for gpu in answer.gpus],
        "vllm": answer.version,
        "preset": answer.preset,
        "context": forecast.context if forecast else answer.context,
        "kv_tokens": forecast.kv_tokens if forecast else 0,
        "max_context": forecast.max_context if forecast else 0,
        "weights_mib": round(forecast.mib("weights"), 1) if forecast else 0.0,
        "allowed_mib": round(forecast.allowed_mib, 1) if forecast else 0.0,
        "memory": memory(forecast),
        "bill": bill(forecast),
        "instances": [instance_json(instance) for instance in answer.instances],
        "settings": [setting_json(setting) for setting in answer.settings],
        "layout": list(answer.words),
        "reasons": [problem_json(problem) for problem in answer.reasons],
        "alternatives": [_alternative(alternative) for alternative in answer.alternatives],
        "warnings": list(answer.warnings),
    }


def memory(forecast: Forecast | None) -> dict[str, float]:
    """Return the bill of the fullest rank: MiB per named term."""
    return {term.name: round(term.mib, 1) for term in forecast.terms} if forecast else {}


def bill(forecast: Forecast | None) -> list[dict[str, Any]]:
    """Return the bill with the formula and the source of each term."""
    terms = forecast.terms if forecast else ()
    return [
        {"name": term.name, "mib": round(term.mib, 1), "formula": term.formula, "source": term.source} for term in terms
    ]


def instance_json(instance: Instance) -> dict[str, Any]:
    """Return one vLLM server with its own bill and settings."""
    forecast = instance.forecast
    return {
        "name": instance.name,
        "port": instance.port,
        "gpus": list(instance.gpus),
        "tensor_parallel_size": instance.tensor_parallel_size,
        "pipeline_parallel_size": instance.pipeline_parallel_size,
        "max_model_len": instance.max_model_len,
        "kv_tokens": forecast.kv_tokens if forecast else 0,
        "max_context": forecast.max_context if forecast else 0,
        "sequences": round(forecast.sequences, 2) if forecast else 0.0,
        "memory": memory(forecast),
        "settings": [setting_json(setting) for setting in instance.settings],
    }


def setting_json(setting: Setting) -> dict[str, Any]:
    return {"name": setting.name, "value": setting.value, "reason": setting.reason, "origin": setting.origin}


def bars(instances: Sequence[Instance], gpus: Sequence[PlannedGpu]) -> tuple[Bar, ...]:
    """Draw one bar per instance; instances whose bills are the same share one."""
    alike: dict[tuple[Forecast, str], list[Instance]] = {}
    for instance in instances:
        if instance.forecast is not None:
            alike.setdefault((instance.forecast, shown_gpu(gpus[instance.gpus[0]])), []).append(instance)
    return tuple(
        bar(_label(group, card), note(forecast), forecast, usable_mib(gpus[group[0].gpus[0]]))
        for (forecast, card), group in alike.items()
    )


def note(forecast: Forecast) -> str:
    """Say what a bill means in tokens."""
    if not forecast.max_context:
        return "nothing is left for a KV cache"
    if not forecast.fits:
        return f"longest context that would fit: {forecast.max_context:,} tokens"
    sequences = f"{forecast.sequences:,.1f} sequences of {forecast.context:,} tokens at once"
    return f"{forecast.kv_tokens:,} KV tokens: {sequences}, or one of up to {forecast.max_context:,}"


def shown_gpu(gpu: PlannedGpu) -> str:
    """Name a GPU: its card, and the profile of a slice."""
    return f"{gpu.card} {gpu.profile}".strip()


def usable_mib(gpu: PlannedGpu) -> int:
    """Return what CUDA has of a GPU: its memory without the driver's own part."""
    return gpu.memory_mib - gpu.reserved_mib


def _label(group: Sequence[Instance], card: str) -> str:
    names = group[0].name if len(group) == 1 else f"{group[0].name} to {group[-1].name}"
    ranks = len(group[0].gpus)
    whose = "its GPU" if len(group) == 1 else "each on a GPU"
    if ranks > 1:
        whose = f"each of {ranks} GPUs" + ("" if len(group) == 1 else " of each")
    return f"{names}, {whose} ({card})"


def _model(answer: Answer) -> dict[str, Any]:
    spec = answer.spec
    if spec is None:
        return {"name": answer.model}
    return {
        "name": answer.model,
        "revision": spec.revision,
        "architecture": spec.architecture,
        "parameters": spec.parameters,
        "weight_bytes": spec.weight_bytes,
        "weights_source": spec.weights_source,
        "dtype": spec.dtype,
        "quantization": spec.quantization.method if spec.quantization else None,
        "max_context": spec.max_context,
    }


def _gpu(gpu: PlannedGpu) -> dict[str, Any]:
    return {"card": gpu.card, "memory_mib": usable_mib(gpu), "free_mib": gpu.free_mib, "profile": gpu.profile}


def _alternative(alternative: Alternative) -> dict[str, Any]:
    return {
        "what": alternative.what,
        "arguments": list(alternative.arguments),
        "settings": dict(alternative.settings),
        "instances": alternative.instances,
        "kv_tokens": alternative.kv_tokens,
        "max_context": alternative.max_context,
    }
