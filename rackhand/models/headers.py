"""What safetensors headers say."""

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from rackhand.models.matrices import Matrix
from rackhand.models.packing import Storage
from rackhand.models.spec import ModelSpec


class Tensor(NamedTuple):
    """One entry of a safetensors header: its type as safetensors names it, its shape, its bytes."""

    dtype: str
    shape: tuple[int, ...]
    bytes: int


def from_headers(
    spec: ModelSpec, tensors: Mapping[str, Tensor], matrices: Iterable[Matrix], stored: Storage
) -> ModelSpec:
    return spec


def from_index(spec: ModelSpec, total_bytes: int, names: Collection[str]) -> ModelSpec:
    return spec
