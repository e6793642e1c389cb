"""Read a quantization_config: which method of vLLM it is, and how it packs the linear weights.

Formats follow the checkpoints' own libraries as vLLM 0.26.0 loads them (model_executor/layers/quantization/).
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from rackhand.models.packing import Packing, Storage
from rackhand.models.reading import Reader
from rackhand.models.spec import Quantization

LINEAR = ("Linear",)
IGNORED = ("ignore", "ignored_layers", "modules_to_not_convert", "exclude_modules", "exclude", "llm_int8_skip_modules")
MARLIN_GROUPS = (-1, 32, 64, 128)
EXPERTS = frozenset({"experts"})
# Bits to an element of methods that are only counted, not unpacked here.
BITS = {"bitsandbytes": 4.5, "gguf": 4.5, "experts_int8": 8, "squeezellm": 4.1, "aqlm": 2.3, "quip": 2.1, "hqq": 4.5}

Entry = tuple[Quantization, Packing]


def storage(config: Mapping[str, Any] | None, element_bytes: int, where: str) -> Storage:
    """Read how a checkpoint is stored; None or empty: nothing is quantised.

    Raises RackhandError `model-config` when a number in it makes no sense.
    """
    if not config:
        return Storage(element_bytes=element_bytes)
    given = Reader(config, where)
    method = _method(given)
    if method == "compressed-tensors":
        return _with_ignored(_compressed(given, element_bytes), given)
    found, packing = READERS.get(method, _other)(given, method)
    stored = Storage(element_bytes=element_bytes, quantization=found, rules=((LINEAR, packing),))
    if found.method in ("mxfp4", "experts_int8"):
        stored = replace(stored, parts=EXPERTS)
    return _with_ignored(stored, given)


def _method(given: Reader) -> str:
    """Return the checkpoint's method in one spelling; files without one are those of GPTQ's or ModelOpt's libraries."""
    said = given.text("quant_method").lower().replace("compressed_tensors", "compressed-tensors")
    if "quantization" in given and said in ("", "modelopt"):
        return "modelopt"
    return said or ("gptq" if "bits" in given else "modelopt" if "quant_algo" in given else "unknown")


def _with_ignored(stored: Storage, given: Reader) -> Storage:
    nested = given.table("quantization")
    listed = [name for level in (given, nested) for key in IGNORED for name in level.words(key)]
    dynamic = [f"re:{key[2:]}" for key in given.table("dynamic").values if str(key).startswith("-:")]
    return replace(stored, ignored=tuple(listed + dynamic))


def _awq(given: Reader, method: str) -> Entry:
    bits, group = given.size("bits", "w_bit", default=4), _group(given, "group_size", "q_group_size")
    zeros = bits if given.flag("zero_point", default=True) else 0
    words = f"AWQ {bits}-bit, {_groups(group)}"
    refused = "" if bits == 4 else f"AWQ with {bits} bits: vLLM runs 4"
    found = Quantization(method="auto_awq", weight_bits=bits, group_size=group, words=words, refused=refused)
    return found, Packing(bits=bits, group=group, scale_bytes=2, zero_bits=zeros)


def _gptq(given: Reader, method: str) -> Entry:
    bits, group = given.size("bits", default=4), _group(given, "group_size")
    symmetric = given.flag("sym", default=True)
    refused = "" if symmetric else "asymmetric GPTQ (sym: false): vLLM runs symmetric weights only"
    if bits not in (4, 8):
        refused = f"GPTQ with {bits} bits: vLLM runs 4 and 8"
    if (group or -1) not in MARLIN_GROUPS:
        refused = refused or f"GPTQ in groups of {group}: vLLM's kernels take 32, 64, 128 or one group"
    words = f"GPTQ {bits}-bit, {_groups(group)}" + (", act-order" if given.flag("desc_act") else "")
    name = "inc" if method == "auto-round" else "auto_gptq"
    found = Quantization(method=name, weight_bits=bits, group_size=group, words=words, refused=refused)
    return found, Packing(bits=bits, group=group, scale_bytes=2, zero_bits=bits, column_bytes=4)


def _fp8(given: Reader, method: str) -> Entry:
    block = given.numbers("weight_block_size")
    static = given.text("activation_scheme") == "static"
    words = f"FP8 in blocks of {block[0]}x{block[1]}" if len(block) == 2 else "FP8"
    words += ", static activation scales" if static else ", dynamic activation scales"
    found = Quantization(
        method=method, weight_bits=8, group_size=block[1] if len(block) == 2 else None, activation_bits=8, words=words
    )
    if len(block) != 2:
        return found, Packing(bits=8, matrix_bytes=8 if static else 4)
    if min(block) < 1:
        raise given.nonsense("weight_block_size")
    return found, Packing(bits=8, group=block[1], group_rows=block[0], scale_bytes=4)


def _modelopt(given: Reader, method: str) -> Entry:
    nested = given.table("quantization") if "quantization" in given else given
    algorithm = nested.text("quant_algo", "FP8").upper()
    kept = nested.text("kv_cache_quant_algo").upper()
    cache = {"FP8": 8, "NVFP4": 4}.get(kept) or _cache_bits(given)
    if "NVFP4" in algorithm:
        words = "NVFP4 (4-bit floats in groups of 16)"
        name, activation = "modelopt_fp4", None if "W4A16" in algorithm else 4
        packing = Packing(bits=4, group=16, scale_bytes=1, matrix_bytes=8)
    elif algorithm == "MXFP8":
        name, words, activation = "modelopt_mxfp8", "MXFP8 (8-bit floats in groups of 32)", 8
        packing = Packing(bits=8, group=32, scale_bytes=1)
    else:
        name, words, activation = "modelopt", "FP8 of ModelOpt", 8
        packing = Packing(bits=8, matrix_bytes=8)
        name = "modelopt_mixed" if algorithm == "MIXED_PRECISION" else name
    found = Quantization(
        method=name, weight_bits=packing.bits, group_size=packing.group, activation_bits=activation,
        kv_cache_bits=cache, words=words,
    )  # fmt: skip
    return found, packing


def _mxfp4(given: Reader, method: str) -> Entry:
    words = "MXFP4 experts (4-bit floats in groups of 32)"
    return Quantization(method="mxfp4", weight_bits=4, group_size=32, words=words), Packing(
        bits=4, group=32, scale_bytes=1
    )


def _other(given: Reader, method: str) -> Entry:
    eight = given.flag("load_in_8bit")
    bits: float = 8 if eight else BITS.get(method, 0) or given.size("bits", "weight_bits", default=8)
    return Quantization(method=method, weight_bits=bits, words=f"{method}, about {bits:g} bits"), Packing(bits=bits)


READERS: dict[str, Callable[[Reader, str], Entry]] = {
    "awq": _awq,
    "awq_marlin": _awq,
    "auto_awq": _awq,
    "gptq": _gptq,
    "gptq_marlin": _gptq,
    "auto_gptq": _gptq,
    "auto-round": _gptq,
    "fp8": _fp8,
    "fbgemm_fp8": _fp8,
    "modelopt": _modelopt,
    "modelopt_fp4": _modelopt,
    "mxfp4": _mxfp4,
    "gpt_oss_mxfp4": _mxfp4,
}


def _compressed(given: Reader, element_bytes: int) -> Storage:
    """Read compressed-tensors: groups of modules, each with its own format."""
    rules, kinds = [], []
    for name, value in given.table("config_groups").values.items():
        group = given.table("config_groups").table(name)
        weights = group.table("weights")
        if isinstance(value, Mapping) and weights.values:
            rules.append((group.words("targets") or LINEAR, _compressed_packing(weights)))
            kinds.append((weights, group.table("input_activations")))
    weights, activations = kinds[0] if kinds else (Reader({}, given.where), Reader({}, given.where))
    bits = weights.size("num_bits", default=8)
    floats = weights.text("type", "int") == "float"
    width = activations.size("num_bits", default=16)
    found = Quantization(
        method="compressed-tensors",
        weight_bits=bits,
        group_size=_group(weights, "group_size"),
        activation_bits=width if width < 16 else None,
        kv_cache_bits=_cache_bits(given),
        words=f"compressed-tensors W{bits}A{width} ({'floats' if floats else 'integers'})",
    )
    return Storage(element_bytes=element_bytes, quantization=found, rules=tuple(rules))


def _compressed_packing(weights: Reader) -> Packing:
    bits, strategy = weights.size("num_bits", default=8), weights.text("strategy", "tensor")
    floats, block = weights.text("type", "int") == "float", weights.numbers("block_structure")
    if strategy == "block" and len(block) == 2 and min(block) > 0:
        return Packing(bits=bits, group=block[1], group_rows=block[0], scale_bytes=4)
    if strategy in ("group", "tensor_group"):
        zeros = 0 if weights.flag("symmetric", default=True) else bits
        scale, extra = (1, 8) if floats and bits == 4 else (2, 16)
        return Packing(
            bits=bits, group=_group(weights, "group_size"), scale_bytes=scale, zero_bits=zeros, matrix_bytes=extra
        )
    if strategy == "channel":
        return Packing(bits=bits, scale_bytes=4, matrix_bytes=0 if bits == 8 else 16)
    return Packing(bits=bits, matrix_bytes=4)


def _cache_bits(given: Reader) -> int | None:
    scheme = given.table("kv_cache_scheme")
    return scheme.size("num_bits", default=8) if scheme.values else None


def _group(given: Reader, *keys: str) -> int | None:
    """Return the elements to a group; None for one group to a row, which the files write as -1 or not at all."""
    for key in keys:
        if key in given and given.get(key) != -1:
            return given.size(key)
    return None


def _groups(group: int | None) -> str:
    return f"groups of {group}" if group else "one group to a row"
