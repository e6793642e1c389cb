"""What weights take beyond their bytes: large matrices are rounded up, and every layer shares a table of rotations."""

from collections.abc import Iterator

from rackhand.catalog.memory import memory_book
from rackhand.fitting.terms import MIB, Serving
from rackhand.models.spec import ModelSpec

# cos and sin of every position, half a head each, in 16 bits (rotary_embedding/base.py).
ROTATION_BYTES = 2


def extra_mib(spec: ModelSpec, serving: Serving, layers: int) -> float:
    """Return the MiB that loading adds on a rank with so many layers."""
    book = memory_book()
    rotations = spec.max_context * spec.head_size * ROTATION_BYTES / MIB
    return book.loading.mib + rotations + layers * sum(map(_waste, _matrices(spec, serving)))


def _waste(mib: float) -> float:
    rounding = memory_book().rounding
    return -mib % rounding.to_mib if mib > rounding.from_mib else 0.0


def _matrices(spec: ModelSpec, serving: Serving) -> Iterator[float]:
    """Yield the MiB of each matrix of a dense layer as vLLM merges them; experts are few large tensors that fit."""
    if spec.experts is not None or spec.quantization is not None:
        return
    bits = 1 if serving.quantization else 2
    unit = spec.hidden_size * bits / serving.tensor_parallel_size / MIB
    queries = spec.heads * spec.head_size
    yield unit * (queries + 2 * spec.kv_heads * spec.head_size)
    yield unit * queries
    yield unit * 2 * spec.intermediate_size
    yield unit * spec.intermediate_size
