"""memory.yaml: constants of the memory bill, read off real engines."""

from collections.abc import Iterator
from functools import cache
from typing import Annotated

from pydantic import Field
from typing_extensions import override

from rackhand.catalog.book import HERE, Book, Entry, read

Mib = Annotated[float, Field(ge=0)]


class Margin(Entry):
    """The part of a predicted cache that no plan counts on."""

    share: Annotated[float, Field(ge=0, lt=1)]


class Fixed(Entry):
    """A term that does not depend on the model."""

    mib: Mib


class NonTorch(Entry):
    """Memory outside PyTorch's pool, for one rank and for several."""

    single_mib: Mib
    parallel_mib: Mib


class Rounding(Entry):
    """How large blocks are rounded up."""

    from_mib: Mib
    to_mib: Annotated[float, Field(gt=0)]


class Forward(Entry):
    """Elements alive at the peak of an MLP, per token, as multiples of its sizes; what compiled graphs add."""

    hidden: Mib
    intermediate: Mib
    compiled_hidden: Mib
    compiled_intermediate: Mib


class Family(Entry):
    """Architectures that keep another number of hidden states; `copies` says that attention copies queries and keys."""

    prefixes: Annotated[tuple[str, ...], Field(min_length=1)]
    hidden: Mib
    copies: bool = False


class Latent(Entry):
    """Room for a chunk of context: `sequences` full contexts, at most `tokens`, of `elements` per head."""

    tokens: int
    sequences: int
    elements: int


class Sampler(Entry):
    """Bytes alive at the peak of sampling, per sequence and vocabulary entry, by model runner."""

    v1_bytes: Mib
    v2_bytes: Mib


class Buffers(Entry):
    """Tensors of the batch: bytes per sequence and vocabulary entry, and the rest."""

    entry_bytes: Mib
    mib: Mib


class Graphs(Entry):
    """What CUDA graphs take, by model runner."""

    base_mib: Mib
    layer_mib: Mib
    doubling_mib: Mib
    from_sequences: Annotated[int, Field(ge=1)]
    to_sequences: Annotated[int, Field(ge=1)]


class MemoryBook(Book):
    """The whole file."""

    margin: Margin
    context: Fixed
    non_torch: NonTorch
    loading: Fixed
    rounding: Rounding
    workspace: Fixed
    forward: Forward
    families: tuple[Family, ...]
    latent: Latent
    sampler: Sampler
    buffers: Buffers
    graphs: Graphs

    @override
    def entries(self) -> Iterator[Entry]:
        yield from (value for name in type(self).model_fields if isinstance(value := getattr(self, name), Entry))
        yield from self.families

    def family(self, architecture: str) -> Family | None:
        """Return the family of an architecture, None for one that was not measured."""
        return next((row for row in self.families if architecture.startswith(row.prefixes)), None)


@cache
def memory_book() -> MemoryBook:
    """Return the checked constants."""
    return read(MemoryBook, HERE / "memory.yaml")
