"""The bytes that safetensors headers or an index state, put in the place of computed ones."""

import json
import struct
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

from rackhand.errors import RackhandError
from rackhand.models.matrices import PARTS, Matrix, part, size_of
from rackhand.models.packing import Storage
from rackhand.models.spec import ModelSpec, Part
from rackhand.models.tensors import FUSED, Tensor, part_of, skipped

INDEX = "model.safetensors.index.json"
LONGEST_HEADER = 100_000_000  # what the safetensors library accepts, in bytes
FLOATS = ("F64", "F32", "F16", "BF16")
PRECISE = ("scale", "A_log", "e_score_correction_bias", "zero_point")
# An index may count what vLLM does not load; a sum further off than this says nothing about an unquantised model.
NEAR = (0.8, 1.25)


def from_headers(
    spec: ModelSpec, tensors: Mapping[str, Tensor], matrices: Iterable[Matrix], stored: Storage
) -> ModelSpec:
    """Take the bytes, and for an unquantised model the elements too, from the headers; add what vLLM holds twice."""
    elements, taken = dict.fromkeys(PARTS, 0), dict.fromkeys(PARTS, 0)
    computed = {held.name: held.elements for held in spec.parts}
    for name, tensor in tensors.items():
        if not skipped(name, spec):
            for share, where in _shares(spec, part_of(name, tensor), computed):
                elements[where] += round(share * tensor.elements)
                taken[where] += round(share * _loaded(name, tensor, stored))
    there = {name.partition("layers.")[2] for name in tensors}
    for matrix in matrices:
        # Room that vLLM makes for weights that it does not use may have some in the files.
        if matrix.copied and f"{matrix.name.partition('layers.')[2]}.weight" not in there:
            taken[matrix.part] += size_of(matrix, stored)
    counts = elements if spec.quantization is None else {name: computed.get(name, elements[name]) for name in PARTS}
    found = tuple(part(name, counts[name], taken[name]) for name in PARTS if taken[name])
    return replace(spec, parts=found, weights_source="headers", source=spec.source.partition("estimated tower")[0])


def _shares(spec: ModelSpec, where: str, computed: Mapping[str, int]) -> list[tuple[float, str]]:
    if where == FUSED:
        share = 2 * spec.kv_heads / (spec.heads + 2 * spec.kv_heads)
        return [(1 - share, "attention"), (share, "key-value")]
    # A tower that was not taken apart is one part.
    known = where in computed or not where.startswith("vision")
    return [(1, where if known else "vision")]


def _loaded(name: str, tensor: Tensor, stored: Storage) -> int:
    """Return what a tensor takes on the GPU: floats in the model's precision, packed ones as they are."""
    if tensor.dtype in FLOATS and not any(word in name for word in PRECISE):
        return tensor.elements * stored.element_bytes
    return tensor.bytes


def from_index(
    spec: ModelSpec, total_bytes: int, names: Collection[str], matrices: Iterable[Matrix], stored: Storage
) -> ModelSpec:
    """Scale the computed bytes so that they sum up to what the index states, where it counts what vLLM loads."""
    left_out = [name for name in names if skipped(name, spec)]
    if any(not name.endswith(("lm_head.weight", "inv_freq")) for name in left_out):
        return spec  # the sum holds layers for speculation, whose size the index does not tell
    if any(name.endswith("lm_head.weight") for name in left_out):
        total_bytes -= spec.vocab_size * spec.hidden_size * stored.element_bytes
    twice = sum(size_of(matrix, stored) for matrix in matrices if matrix.copied)
    missing = total_bytes - (spec.weight_bytes - twice)
    ratio = total_bytes / max(1, spec.weight_bytes - twice)
    if spec.quantization is None and not NEAR[0] < ratio < NEAR[1]:
        return spec
    return replace(spec, parts=_spread(spec, missing), weights_source="headers")


def _spread(spec: ModelSpec, missing: int) -> tuple[Part, ...]:
    """Add the missing bytes (or take them) from the parts that a method packs, all parts of an unquantised model."""
    packed = [held for held in spec.parts if held.linear] if spec.quantization else list(spec.parts)
    base = sum(held.bytes for held in packed)
    if not base or base + missing < 0:
        return spec.parts
    sizes = {held.name: held.bytes + missing * held.bytes // base for held in packed}
    largest = max(packed, key=lambda held: held.bytes).name
    sizes[largest] += base + missing - sum(sizes.values())
    return tuple(replace(held, bytes=sizes.get(held.name, held.bytes)) for held in spec.parts)


def of_directory(directory: Path) -> dict[str, Tensor]:
    """Read the headers of a model directory; empty when it holds no safetensors files.

    Raises RackhandError `model-config` for a file whose header cannot be read.
    """
    files = sorted(directory.glob("*.safetensors"))
    if len(files) > 1:
        files = [path for path in files if not path.name.startswith("consolidated")] or files
    tensors: dict[str, Tensor] = {}
    for path in files:
        tensors |= of_file(path)
    return tensors


def of_file(path: Path) -> dict[str, Tensor]:
    """Read one file's header: eight bytes of length, then JSON. Raises RackhandError `model-config`."""
    try:
        with path.open("rb") as stream:
            return parse(stream.read(length(stream.read(8))))
    except (OSError, ValueError, struct.error) as error:
        why = getattr(error, "strerror", None) or "not a safetensors header"
        raise RackhandError("model-config", f"{path.name}: {why}", str(path.parent), "download it again") from None


def length(first: bytes) -> int:
    """Return the length of a header from the file's first eight bytes; raises ValueError or struct.error."""
    (size,) = struct.unpack("<Q", first)
    if not 2 <= size <= LONGEST_HEADER:
        raise ValueError("impossible header length")
    return int(size)


def parse(header: bytes) -> dict[str, Tensor]:
    """Read a header's JSON; raises ValueError."""
    found: Any = json.loads(header)
    if not isinstance(found, dict):
        raise ValueError("not an object")
    return {name: _tensor(entry) for name, entry in found.items() if name != "__metadata__"}


def _tensor(entry: Any) -> Tensor:
    try:
        first, last = (int(offset) for offset in entry["data_offsets"])
        shape = tuple(int(size) for size in entry["shape"])
        kind = str(entry["dtype"])
    except (KeyError, TypeError) as error:
        raise ValueError("not a tensor") from error
    if last < first or prod(shape) < 0:
        raise ValueError("impossible sizes")
    return Tensor(kind, shape, last - first)
