"""ranges.yaml: bounds that vLLM checks only after its parser, when the engine is already starting."""

from functools import cache
from typing import Annotated

from pydantic import ConfigDict, Field

from rackhand.catalog.book import HERE, Book, Entry, read


class Range(Entry):
    """Bounds of one option's number; `except_` are values that are always taken."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    option: str
    least: float | None = None
    most: float | None = None
    over: float | None = None
    under: float | None = None
    multiple: int | None = None
    except_: Annotated[tuple[float, ...], Field(alias="except")] = ()

    def holds(self, value: float) -> bool:
        """Tell whether vLLM takes the number."""
        bounds = (
            self.least is None or value >= self.least,
            self.most is None or value <= self.most,
            self.over is None or value > self.over,
            self.under is None or value < self.under,
            self.multiple is None or value % self.multiple == 0,
        )
        return value in self.except_ or all(bounds)

    @property
    def words(self) -> str:
        """Say the bounds: "above 0 and at most 1"."""
        said = (
            ("at least", self.least),
            ("above", self.over),
            ("at most", self.most),
            ("below", self.under),
            ("a multiple of", self.multiple),
        )
        return " and ".join(f"{word} {bound:g}" for word, bound in said if bound is not None)


class Order(Entry):
    """`option` must not be below `floor`; with `where` only if that flag is set."""

    option: str
    floor: str
    where: str | None = None


class RangeBook(Book):
    """The whole file."""

    ranges: tuple[Range, ...]
    orders: tuple[Order, ...]


@cache
def range_book() -> RangeBook:
    """Return the checked file."""
    return read(RangeBook, HERE / "ranges.yaml")
