"""quantization.yaml: on which cards vLLM runs weights of each method of quantisation."""

from functools import cache
from typing import Annotated

from pydantic import Field

from rackhand.catalog.book import HERE, Book, Entry, read
from rackhand.catalog.vllm_options import Series, number

Sentence = Annotated[str, Field(min_length=1)]
Capability = tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=0)]]


class Method(Entry):
    """One method in a range of series: from `since`, before `until`; `native` computes in the format itself."""

    names: Annotated[tuple[str, ...], Field(min_length=1)]
    words: Sentence
    capability: Capability
    native: Capability | None = None
    since: Series | None = None
    until: Series | None = None

    def in_series(self, series: str) -> bool:
        since, until = self.since, self.until
        return not (since and number(series) < number(since)) and not (until and number(series) >= number(until))


class MethodBook(Book):
    """The whole file."""

    methods: Annotated[tuple[Method, ...], Field(min_length=1)]


@cache
def _book() -> MethodBook:
    return read(MethodBook, HERE / "quantization.yaml")


def method(name: str, version: str) -> Method | None:
    """Find what vLLM `version` asks of a card for a method, by any of the method's names."""
    series = ".".join(version.split(".")[:2])
    return next((row for row in _book().methods if name in row.names and row.in_series(series)), None)
