"""Refuse a checkpoint whose quantisation the wished vLLM or the card cannot run, by name and with a way out."""

from rackhand.catalog.quantization import method
from rackhand.catalog.retired import instead, retired_value
from rackhand.catalog.vllm import quantizations
from rackhand.models.spec import ModelSpec, Quantization
from rackhand.outcome import Problem

OTHER = "choose a checkpoint in AWQ, GPTQ, FP8 or compressed-tensors, or one that is not quantised"


def refuse_quantization(
    asked: ModelSpec | Quantization | None, version: str, capability: tuple[int, int] | None = None
) -> list[Problem]:
    """Return every reason why vLLM `version` cannot run a checkpoint on a card of `capability` (None: any card).

    Codes: `quantization-dropped` (no such method in this vLLM), `quantization-unsupported` (a variant that it lacks),
    `quantization-capability` (the card is too old). Raises RackhandError `unknown-engine` for an unknown series.
    """
    where = asked.name if isinstance(asked, ModelSpec) else "model"
    stored = asked.quantization if isinstance(asked, ModelSpec) else asked
    if stored is None:
        return []
    found = [] if stored.method in quantizations(version) else [_dropped(stored, version, where)]
    if stored.refused:
        found.append(Problem(code="quantization-unsupported", what=stored.refused, where=where, next_step=OTHER))
    row = method(stored.method, version)
    if not found and row and capability and capability < row.capability:
        what = f"{row.words} needs compute capability {_dotted(row.capability)}, the card has {_dotted(capability)}"
        step = "choose a newer card, or a checkpoint in another format"
        found.append(Problem(code="quantization-capability", what=what, where=where, next_step=step))
    return found


def _dropped(stored: Quantization, version: str, where: str) -> Problem:
    row = retired_value("quantization", stored.method, ".".join(version.split(".")[:2]))
    what = f"the weights are stored with {stored.method}, which vLLM {version} does not load"
    if row:
        what += f" (gone since {row.gone})" if row.gone != "0.24" else " (it was dropped before 0.24)"
    step = instead(row.use) if row and not row.use.startswith("nothing") else OTHER
    return Problem(code="quantization-dropped", what=what, where=where, next_step=step)


def _dotted(capability: tuple[int, int]) -> str:
    return ".".join(map(str, capability))
