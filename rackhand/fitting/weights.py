"""The weights that one rank holds: which parts, how divided, how stored."""

from dataclasses import dataclass
from functools import lru_cache

from rackhand.fitting.terms import Serving
from rackhand.models.spec import ModelSpec, Part, Split, Stage

# vLLM pads the vocabulary so that its rows divide evenly (vocab_parallel_embedding.py, DEFAULT_VOCAB_PADDING_SIZE).
VOCAB_PADDING = 64
VOCAB_PARTS = ("embeddings", "lm_head")
BYTES = {"float32": 4, "float": 4}


@dataclass(frozen=True)
class StageLoad:
    """One pipeline stage: how many layers it runs and the bytes of weights on each of its ranks."""

    layers: int
    bytes: float


@lru_cache(maxsize=1024)
def stages(spec: ModelSpec, serving: Serving) -> tuple[StageLoad, ...]:
    """Return every pipeline stage's load, in order."""
    count = serving.pipeline_parallel_size
    sizes = stage_layers(spec.layers, count)
    return tuple(
        StageLoad(layers, sum(_held(part, spec, serving, index, layers) for part in spec.parts))
        for index, layers in enumerate(sizes)
    )


def stage_layers(layers: int, count: int) -> list[int]:
    """Divide layers among stages as vLLM does: the rest goes to the stages before the last (get_pp_indices)."""
    sizes = [layers // count] * count
    for position in range(2, layers % count + 2):
        sizes[-position] += 1
    return sizes


def _held(part: Part, spec: ModelSpec, serving: Serving, index: int, layers: int) -> float:
    first, last = index == 0, index == serving.pipeline_parallel_size - 1
    match part.stage:
        case Stage.FIRST:
            again = spec.tied_embeddings and part.name == "embeddings" and last
            share = 1.0 if first or again else 0.0
        case Stage.LAST:
            share = 1.0 if last else 0.0
        case _:
            share = layers / spec.layers
    return share * loaded_bytes(part, spec, serving) / _ways(part, spec, serving)


def loaded_bytes(part: Part, spec: ModelSpec, serving: Serving) -> float:
    """Return what a part takes once loaded: online fp8 halves 16-bit linear weights, float32 doubles 16-bit ones."""
    size = float(part.bytes)
    plain = spec.quantization is None or not part.linear
    if part.linear and spec.quantization is None and serving.quantization is not None:
        return float(part.elements)
    if plain and part.elements:
        size = part.elements * min(size / part.elements, BYTES.get(serving.dtype, 2))
        if serving.dtype in BYTES:
            size = part.elements * BYTES[serving.dtype]
    if part.name in VOCAB_PARTS and spec.vocab_size:
        padded = -(-spec.vocab_size // VOCAB_PADDING) * VOCAB_PADDING
        size *= padded / spec.vocab_size
    return size


def _ways(part: Part, spec: ModelSpec, serving: Serving) -> int:
    match part.split:
        case Split.TENSOR:
            return serving.tensor_parallel_size
        case Split.KV_HEADS:
            return min(serving.tensor_parallel_size, max(1, spec.kv_heads))
        case _:
            return 1
