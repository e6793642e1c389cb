"""From option values to what memory depends on: everything that vLLM would decide by itself, decided as it would."""

from collections.abc import Mapping
from typing import Any

from rackhand.catalog import engine
from rackhand.catalog.quantization import method
from rackhand.catalog.serving import serving_book
from rackhand.fitting.defaults import batch_defaults
from rackhand.fitting.terms import Device, Serving
from rackhand.models.spec import ModelSpec
from rackhand.serving import options
from rackhand.serving.terms import Case

FLOAT32 = ("float32", "float")
NAMES = {"half": "float16", "float": "float32"}


def fp8_from(version: str) -> tuple[int, int]:
    """Return the least compute capability that multiplies in fp8; below it fp8 weights only save memory."""
    row = method("fp8", version)
    assert row, "quantization.yaml knows fp8 in every series"
    return row.native or row.capability


def serving_of(case: Case, values: Mapping[str, Any], context: int | None) -> Serving:
    """Return what the forecast needs; `values` are all options that will be emitted, the user's included."""
    seqs, tokens = batch(case, values, context or case.spec.max_context)
    return Serving(
        version=case.ask.version,
        gpu_memory_utilization=share_of(case, values),
        max_num_seqs=seqs,
        max_num_batched_tokens=tokens,
        max_model_len=context,
        tensor_parallel_size=case.ranks.tensor,
        pipeline_parallel_size=case.ranks.pipeline,
        dtype=dtype(case.spec, case.device, options.text(values, "dtype")),
        kv_cache_dtype=options.text(values, "kv-cache-dtype") or "auto",
        quantization=_online(case, values),
        enforce_eager=bool(options.flag(values, "enforce-eager")),
        block_size=options.whole(values, "block-size"),
        kv_cache_bytes=options.whole(values, "kv-cache-memory-bytes"),
        expert_parallel=bool(options.flag(values, "enable-expert-parallel")),
    )


def _online(case: Case, values: Mapping[str, Any]) -> str | None:
    """Return the method that stores weights in a byte while they are loaded; None for all others."""
    wished = options.text(values, "quantization")
    return wished if case.spec.quantization is None and wished in serving_book().online.bytes else None


def share_of(case: Case, values: Mapping[str, Any]) -> float:
    """Return the share of a GPU's memory: of a shared GPU, as emitted, or vLLM's default."""
    return float(
        case.ranks.share or values.get("gpu-memory-utilization") or engine(case.ask.version).gpu_memory_utilization
    )


def batch(case: Case, values: Mapping[str, Any], context: int) -> tuple[int, int]:
    """Return sequences and tokens of a batch: as given, else vLLM's defaults, which its throughput mode doubles."""
    seqs, tokens = batch_defaults(case.ask.version, case.device, context)
    wider = 2 if values.get("performance-mode") == "throughput" else 1
    given_tokens = options.whole(values, "max-num-batched-tokens")
    whole = context if options.flag(values, "enable-chunked-prefill") is False else 0
    chosen_tokens = given_tokens or max(tokens * wider, whole)
    chosen = options.whole(values, "max-num-seqs") or min(seqs * wider, chosen_tokens)
    return chosen, given_tokens or min(chosen_tokens, chosen * context)


def dtype(spec: ModelSpec, device: Device, wished: str | None) -> str:
    """Return the dtype that vLLM runs a model in: as wished, else the model's where the card computes in it.

    Source: vllm/config/model.py, _resolve_auto_dtype: float32 checkpoints are run in 16 bits; below compute capability
    8.0 bfloat16 becomes float16, and float32 for families that are unstable in float16.
    """
    if wished is not None:
        return NAMES.get(wished, wished)
    refused = spec.architecture in serving_book().float16_refused.architectures
    able = device.capability >= serving_book().bfloat16.capability
    if spec.dtype == "float16" and not refused:
        return "float16"
    return "bfloat16" if able else "float32" if refused else "float16"
