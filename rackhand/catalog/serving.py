"""serving.yaml: which preset sets which engine option and why, and what the hardware can compute in."""

from collections.abc import Iterator
from enum import StrEnum
from functools import cache
from typing import Annotated

from pydantic import Field
from typing_extensions import override

from rackhand.catalog.book import HERE, Book, Entry, read


class Preset(StrEnum):
    """What an instance is tuned for."""

    BALANCED = "balanced"
    THROUGHPUT = "throughput"
    LATENCY = "latency"
    LONG_CONTEXT = "long-context"
    COST = "cost"
    DEBUG = "debug"


class When(StrEnum):
    """The condition of a rule.

    FP8_WEIGHTS, FP8_CACHE: the hardware computes in it, the model is not stored in it, the user allowed it.
    FP8_CACHE_AND_WEIGHTS: FP8_CACHE where the weights are not left in 16 bits. ROOM: the card has room for a larger
    share, as far as it has. LOWER: the value is below the engine's default.
    """

    ALWAYS = "always"
    FP8_WEIGHTS = "fp8-weights"
    FP8_CACHE = "fp8-cache"
    FP8_CACHE_AND_WEIGHTS = "fp8-cache-and-weights"
    ROOM = "room"
    LOWER = "lower"


class Least(Entry):
    """The least compute capability."""

    capability: tuple[int, int]


class Architectures(Entry):
    """Names as config.json has them."""

    architectures: Annotated[tuple[str, ...], Field(min_length=1)]


class Tokens(Entry):
    """A length."""

    tokens: Annotated[int, Field(gt=0)]


class Spare(Entry):
    """Memory that is kept free."""

    mib: Annotated[int, Field(gt=0)]


class Rule(Entry):
    """One option of some presets; a release of vLLM that lacks it goes without."""

    presets: Annotated[tuple[Preset, ...], Field(min_length=1)]
    option: Annotated[str, Field(pattern=r"^[a-z0-9-]+$")]
    value: bool | int | float | str
    when: When
    reason: Annotated[str, Field(min_length=1)]


class Online(Entry):
    """Methods for a checkpoint that is not quantised; `bytes` are those that leave a byte per weight."""

    methods: tuple[str, ...]
    bytes: tuple[str, ...]


class ServingBook(Book):
    """The whole file."""

    bfloat16: Least
    fp8_cache: Least
    float16_refused: Architectures
    online: Online
    typical: Tokens
    spare: Spare
    rules: tuple[Rule, ...]

    @override
    def entries(self) -> Iterator[Entry]:
        yield from (value for name in type(self).model_fields if isinstance(value := getattr(self, name), Entry))
        yield from self.rules


@cache
def serving_book() -> ServingBook:
    """Return the checked rules."""
    return read(ServingBook, HERE / "serving.yaml")
