"""From the words of a question to the settings of a deploy that asks for the same."""

import re
from typing import Any, Literal, get_args

from rackhand import settings
from rackhand.commands.question import SHORTEST_CONTEXT, Question, number, one_of
from rackhand.errors import RackhandError
from rackhand.models.spec import ModelSpec
from rackhand.settings import Settings

WHERE = "rackhand fit"
# Engine settings that a plan decides by itself or that do not change it.
OURS = (
    "api-key", "config", "data-parallel-size", "device-ids", "hf-token", "host", "model", "port", "served-model-name",
    "shutdown-timeout",
)  # fmt: skip
# Engine settings that are settings of a deploy.
APART = ("max-model-len", "gpu-memory-utilization", "tensor-parallel-size", "pipeline-parallel-size")
PRESETS: tuple[str, ...] = get_args(settings.HINTS["serve_preset"])


def check(question: Question) -> None:
    """Refuse what no deploy could be asked for, before anything is looked up."""
    for name in sorted(question.options.keys() & set(OURS)):
        raise RackhandError("option", f"{name} is nothing that a plan is asked for", "--set", "leave it out")
    one_of(question.preset, PRESETS, "--preset")
    _context(question)
    _share(question)


def settings_of(question: Question, spec: ModelSpec) -> Settings:
    """Return the settings; instances are called after the model."""
    data = {
        "model_name": name_of(spec),
        "model_catalogue": name_of(spec),  # the spec is at hand: where it came from is not asked again
        "engine_version": question.version,
        "serve_preset": question.preset,
        "serve_allow_fp8": question.allow_fp8,
        "serve_allow_fp8_kv": question.allow_fp8_kv,
        "serve_instances": question.instances or "auto",
        "serve_tensor_parallel_size": _size(question, "tensor-parallel-size"),
        "serve_pipeline_parallel_size": _size(question, "pipeline-parallel-size"),
        "serve_max_model_len": _context(question),
        "serve_options": {name: value for name, value in question.options.items() if name not in APART},
    }
    # Any share can be asked about, also one that a deploy would not set.
    return settings.load(data, WHERE).model_copy(update={"serve_gpu_memory_utilization": _share(question)})


def name_of(spec: ModelSpec) -> str:
    """Return a name for a model that can be one of a unit."""
    last = spec.name.rstrip("/").rpartition("/")[2].lower()
    return re.sub(r"[^a-z0-9._-]+", "-", last).strip("-._")[:60] or "model"


def _context(question: Question) -> int | Literal["auto"] | None:
    given = question.options.get("max-model-len")
    if given is None:
        return question.context
    if question.context is not None:
        raise RackhandError("option", "the context is given twice", "--set max_model_len", "give --context alone")
    if given in ("auto", -1):
        return "auto"
    return number(str(given), "--set max_model_len", SHORTEST_CONTEXT)


def _share(question: Question) -> float | None:
    """Read gpu-memory-utilization with vLLM's own bounds."""
    given: Any = question.options.get("gpu-memory-utilization")
    if given is None:
        return None
    if isinstance(given, bool) or not isinstance(given, int | float) or not 0 < given <= 1:
        what = f"{given} is no share of a GPU's memory"
        raise RackhandError("option", what, "--set gpu_memory_utilization", "give a number above 0 and up to 1")
    return float(given)


def _size(question: Question, name: str) -> int | Literal["auto"]:
    given = question.options.get(name, "auto")
    return "auto" if given == "auto" else number(str(given), f"--set {name.replace('-', '_')}")
