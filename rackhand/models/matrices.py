"""The weights of a model as matrices, and how they add up to the parts of a model spec."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from rackhand.models.packing import Storage
from rackhand.models.spec import Part, Split, Stage


class Matrix(NamedTuple):
    """One weight (`columns` 1: a vector), as the checkpoint names its module; `copies` for the experts of one layer.

    `fixed_bytes` is the size of one element of what is kept in its own precision, whatever the model's dtype; `copied`
    marks what vLLM holds a second time: bytes, but no parameters.
    """

    part: str
    name: str
    rows: int
    columns: int = 1
    copies: int = 1
    fixed_bytes: int | None = None
    copied: bool = False

    @property
    def elements(self) -> int:
        return self.rows * self.columns * self.copies


@dataclass(frozen=True, kw_only=True)
class Traits:
    """What all weights of one part share; see Part."""

    split: Split = Split.TENSOR
    stage: Stage = Stage.LAYERS
    linear: bool = False


WHOLE = Traits(split=Split.WHOLE)
LINEAR = Traits(linear=True)
# Linear layers that vLLM replicates: DeepSeek's down-projections and V3.2's indexer.
LATENT = Traits(split=Split.WHOLE, linear=True)
PARTS = {
    "embeddings": Traits(stage=Stage.FIRST),
    "embeddings-per-layer": Traits(stage=Stage.FIRST),
    "embeddings-of-positions": Traits(split=Split.WHOLE, stage=Stage.FIRST),
    "vision": Traits(stage=Stage.FIRST),
    "vision-linear": Traits(stage=Stage.FIRST, linear=True),
    "vision-whole": Traits(split=Split.WHOLE, stage=Stage.FIRST),
    "audio": Traits(split=Split.WHOLE, stage=Stage.FIRST),
    "attention": LINEAR,
    "key-value": Traits(split=Split.KV_HEADS, linear=True),
    "latent": LATENT,
    "latent-copies": Traits(),
    "state": LINEAR,
    "state-vectors": Traits(),
    "mlp": LINEAR,
    "experts": LINEAR,
    "shared-experts": LINEAR,
    "router": WHOLE,
    "biases": Traits(),
    "norms": WHOLE,
    "final-norm": Traits(split=Split.WHOLE, stage=Stage.LAST),
    "lm_head": Traits(stage=Stage.LAST),
}


def parts(matrices: Iterable[Matrix], storage: Storage) -> tuple[Part, ...]:
    """Add the matrices up, part by part, in the order of PARTS."""
    elements = dict.fromkeys(PARTS, 0)
    taken = dict.fromkeys(PARTS, 0)
    for matrix in matrices:
        elements[matrix.part] += 0 if matrix.copied else matrix.elements
        taken[matrix.part] += size_of(matrix, storage)
    return tuple(part(name, count, taken[name]) for name, count in elements.items() if count or taken[name])


def part(name: str, elements: int, size: int) -> Part:
    """Make one part with the traits of its name."""
    traits = PARTS[name]
    return Part(name=name, elements=elements, bytes=size, split=traits.split, stage=traits.stage, linear=traits.linear)


def size_of(matrix: Matrix, storage: Storage) -> int:
    """Return the bytes of a weight as stored; an up-projection that is not packed needs no second copy."""
    if matrix.part == "latent-copies" and not storage.packing("attention", matrix.name):
        return 0
    if matrix.fixed_bytes is not None:
        return matrix.elements * matrix.fixed_bytes
    if PARTS[matrix.part].linear and (packing := storage.packing(matrix.part, matrix.name)):
        return matrix.copies * packing.size(matrix.rows, matrix.columns)
    return matrix.elements * storage.element_bytes
