"""engines.yaml: what each vLLM release asks of a host."""

from dataclasses import dataclass
from functools import cache
from typing import Annotated, Self

from pydantic import Field, model_validator

from rackhand.catalog.book import HERE, Book, Entry, read
from rackhand.errors import RackhandError


@dataclass(frozen=True, kw_only=True)
class Engine:
    """One vLLM release; `capability` is the least compute capability, `python_max` the newest minor that works."""

    version: str
    cuda_major: int
    min_branch: str
    python_min: tuple[int, int]
    python_max: tuple[int, int]
    glibc_min: tuple[int, int]
    torch: str
    capability: tuple[int, int]


class EngineRow(Entry):
    """One series, for instance 0.33."""

    series: Annotated[str, Field(pattern=r"^\d+\.\d+$")]
    cuda_major: int
    min_branch: Annotated[str, Field(pattern=r"^\d{3}$")]
    python_min: tuple[int, int]
    python_max: tuple[int, int]
    glibc_min: tuple[int, int]
    torch: Annotated[str, Field(pattern=r"^\d+\.\d+\.\d+$")]
    capability: tuple[int, int]


class EngineBook(Book):
    """The whole file, oldest series first."""

    engines: Annotated[tuple[EngineRow, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _each_series_once(self) -> Self:
        if len({row.series for row in self.engines}) != len(self.engines):
            raise ValueError("a series is listed twice")
        return self


@cache
def engine(version: str) -> Engine:
    """Return what vLLM `version` (0.33.0, 0.33.1.post1, …) asks of a host.

    Raises RackhandError `unknown-engine` for a series that is not in the catalogue.
    """
    rows = read(EngineBook, HERE / "engines.yaml").engines
    series = ".".join(version.split(".")[:2])
    row = next((row for row in rows if row.series == series), None)
    if row is None:
        what = f"vLLM {version} is not in the catalogue, which knows {rows[0].series} to {rows[-1].series}"
        raise RackhandError("unknown-engine", what, "engine_version", f"choose one of these, newest {rows[-1].series}")
    return Engine(version=version, **row.model_dump(exclude={"series", "source"}))
