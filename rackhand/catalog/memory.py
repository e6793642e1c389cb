"""memory.yaml: constants of the memory bill, read off real engines."""

from collections.abc import Iterator
from functools import cache
from typing import Annotated

from pydantic import Field
from typing_extensions import override

from rackhand.catalog.book import HERE, Book, Entry, read

Mib = Annotated[float, Field(ge=0)]


class Fixed(Entry):
    """A term that does not depend on the model."""

    mib: Mib


class NonTorch(Entry):
    """Memory outside PyTorch's pool, for one rank and for several."""

    single_mib: Mib
    parallel_mib: Mib


class Forward(Entry):
    """Elements alive at the peak of a layer, per token, as multiples of its sizes."""

    hidden: Mib
    intermediate: Mib


class Sampler(Entry):
    """Bytes alive at the peak of sampling, per sequence and vocabulary entry, by model runner."""

    v1_bytes: Mib
    v2_bytes: Mib


class Graphs(Entry):
    """What capturing CUDA graphs takes."""

    mib_per_layer: Mib
    base_mib: Mib


class MemoryBook(Book):
    """The whole file."""

    context: Fixed
    non_torch: NonTorch
    loading: Fixed
    workspace: Fixed
    forward_eager: Forward
    forward_compiled: Forward
    sampler: Sampler
    graphs: Graphs

    @override
    def entries(self) -> Iterator[Entry]:
        yield from (value for name in type(self).model_fields if isinstance(value := getattr(self, name), Entry))


@cache
def memory_book() -> MemoryBook:
    """Return the checked constants."""
    return read(MemoryBook, HERE / "memory.yaml")
