"""Hold the user's own options against the hardware and the model, by the rules that the planner itself follows."""

from collections.abc import Iterator, Mapping
from typing import Any

from rackhand.catalog.quantization import method
from rackhand.catalog.serving import serving_book
from rackhand.models.quantization_checks import refuse_quantization
from rackhand.outcome import Problem
from rackhand.serving import options
from rackhand.serving.resolve import FLOAT32, NAMES, batch, fp8_from
from rackhand.serving.terms import Case

# Options that move memory in ways that the forecast does not know.
UNKNOWN_TO_FORECAST = (
    "compilation-config",
    "cpu-offload-gb",
    "cudagraph-capture-sizes",
    "decode-context-parallel-size",
    "enable-lora",
    "hf-overrides",
    "kv-transfer-config",
    "limit-mm-per-prompt",
    "max-cudagraph-capture-size",
    "num-gpu-blocks-override",
    "prefill-context-parallel-size",
    "speculative-config",
)
KNOWN_CACHES = ("auto", "bfloat16", "float16", "float32", "fp8", "fp8_e4m3", "fp8_e5m2")


def problems(case: Case, values: Mapping[str, Any], context: int) -> Iterator[Problem]:
    """Yield every reason for which vLLM would not start: how the model is stored, and what the user gave."""
    yield from refuse_quantization(case.spec, case.ask.version, case.device.capability)
    yield from _dtype(case)
    yield from _quantization(case)
    yield from _batch(case, values, context)


def warnings(case: Case) -> Iterator[str]:
    """Yield what will work and is not what it seems."""
    given, card = case.ask.options, case.device
    wished = options.text(given, "dtype")
    if wished in FLOAT32:
        yield "dtype float32 takes twice the memory of 16 bits and leaves the tensor cores idle; it is for debugging"
    capability = options.dotted(card.capability)
    below = card.capability < serving_book().bfloat16.capability
    if wished is None and below and case.spec.dtype == "bfloat16":
        yield f"{card.card} (compute capability {capability}) has no bfloat16: vLLM runs the model in float16 instead"
    fp8 = str(given.get("quantization", "")).startswith("fp8")
    if fp8 and case.spec.quantization is None and card.capability < fp8_from(case.ask.version):
        yield f"fp8 weights save memory but no time on {card.card}: compute capability {capability} has no fp8 units"
    cache = str(given.get("kv-cache-dtype", "")).startswith("fp8")
    if cache and card.capability < serving_book().fp8_cache.capability:
        yield f"an fp8 KV cache is slower on {card.card}: compute capability {capability} has no fp8 units"
    yield from _unknown(case)


def _unknown(case: Case) -> Iterator[str]:
    """Yield what the forecast cannot count, and what nothing here can check."""
    given, online = case.ask.options, serving_book().online
    for name in UNKNOWN_TO_FORECAST:
        if name in given:
            yield f"{name} changes what memory is taken for; the forecast does not know by how much"
    cache, method = str(given.get("kv-cache-dtype", "auto")), str(given.get("quantization", "auto"))
    if cache not in KNOWN_CACHES:
        yield f"kv-cache-dtype {cache}: the forecast does not know its size and counts 16 bits"
    if case.spec.quantization is None and method in online.methods and method not in online.bytes:
        yield f"quantization {method}: the forecast does not know its size and counts 16 bits"
    if "attention-backend" in given:
        yield "attention-backend: only vLLM's start tells whether it serves this model on this card"
    if case.spec.source.startswith("model type"):
        yield f"{case.spec.source}; whether vLLM serves it is not known here"


def _batch(case: Case, values: Mapping[str, Any], context: int) -> Iterator[Problem]:
    """Hold one of the sizes of a batch against vLLM's default of the other, and against whole prompts."""
    given_tokens = options.whole(values, "max-num-batched-tokens")
    if options.flag(values, "enable-chunked-prefill") is False and given_tokens and given_tokens < context:
        what = f"without chunked prefill a batch must hold a whole prompt: {given_tokens:,} tokens of {context:,}"
        yield _problem(case, "batch-below-context", what, f"set max-num-batched-tokens to at least {context}")
    if sum(options.given(values, name) for name in ("max-num-seqs", "max-num-batched-tokens")) != 1:
        return
    seqs, tokens = batch(case, values, context)
    if tokens < seqs:
        what = f"max-num-batched-tokens {tokens:,} is less than max-num-seqs {seqs:,}: a step needs a token for each"
        step = f"set max-num-seqs to at most {tokens} as well, or max-num-batched-tokens to at least {seqs}"
        yield _problem(case, "batch-below-sequences", what, step)


def _dtype(case: Case) -> Iterator[Problem]:
    wished = NAMES.get(str(case.ask.options.get("dtype")), case.ask.options.get("dtype"))
    book, device = serving_book(), case.device
    if wished == "bfloat16" and device.capability < book.bfloat16.capability:
        what = (
            f"dtype bfloat16 needs compute capability {options.dotted(book.bfloat16.capability)}, {device.card} has "
            f"{options.dotted(device.capability)}"
        )
        yield _problem(case, "dtype-refused", what, "leave dtype out: vLLM then takes float16 by itself")
    if wished == "float16" and case.spec.architecture in book.float16_refused.architectures:
        what = f"vLLM refuses {case.spec.architecture} in float16, it is numerically unstable there"
        yield _problem(case, "dtype-refused", what, "leave dtype out")


def _quantization(case: Case) -> Iterator[Problem]:
    """Hold the wished method against the card, and against the one of a checkpoint: vLLM reads that itself."""
    wished, stored = options.text(case.ask.options, "quantization"), case.spec.quantization
    row, device = method(wished or "", case.ask.version), case.device
    if row and device.capability < row.capability:
        what = (
            f"quantization {wished} needs compute capability {options.dotted(row.capability)}, {device.card} has "
            f"{options.dotted(device.capability)}"
        )
        yield _problem(case, "quantization-capability", what, "choose another method, or leave quantization out")
    if wished is not None and stored is None and wished not in serving_book().online.methods:
        what = f"quantization {wished} reads a checkpoint that is stored so, and this one is not quantised"
        yield _problem(case, "quantization-mismatch", what, "take such a checkpoint, or leave quantization out")
    if wished is None or stored is None or _family(wished) == _family(stored.method):
        return
    what = f"quantization is {wished}, the model is stored as {stored.method}"
    yield _problem(case, "quantization-mismatch", what, "leave quantization out: vLLM reads it from the model")


def _family(method: str) -> str:
    return method.removeprefix("auto_").removesuffix("_marlin").replace("_", "-")


def _problem(case: Case, code: str, what: str, next_step: str) -> Problem:
    return Problem(code=code, what=what, where=case.device.card, next_step=next_step)
