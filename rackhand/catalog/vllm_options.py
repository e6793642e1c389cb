"""vllm_options.yaml: the options of `vllm serve` in each series of releases."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from rackhand.catalog.book import HERE, Book, Entry, read
from rackhand.errors import RackhandError

Series = Annotated[str, Field(pattern=r"^\d+\.\d+$")]


class Kind(StrEnum):
    """What a value of an option must be.

    A flag can be negated and a switch cannot; a count takes 4k (thousands) and 4K (1024s), a context also `auto` and
    -1; a word is text in any case, with dashes or underscores.
    """

    FLAG = "flag"
    SWITCH = "switch"
    INT = "int"
    COUNT = "count"
    CONTEXT = "context"
    FLOAT = "float"
    TEXT = "text"
    WORD = "word"
    JSON = "json"
    ANY = "any"


@dataclass(frozen=True, kw_only=True)
class Option:
    """One option in one series; `off` are names that switch a flag off, `default` is None where vLLM computes it."""

    name: str
    kind: Kind
    many: bool = False
    choices: tuple[str, ...] = ()
    default: Any = None
    also: tuple[str, ...] = ()
    off: tuple[str, ...] = ()


@dataclass(frozen=True)
class OptionTable:
    """The options of one series; `names` holds every long name that its parser takes."""

    series: str
    names: Mapping[str, Option] = field(repr=False)


class OptionRow(Entry):
    """One option over all series; `before` says what a row was before the series that changed it."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
    type: Kind
    many: bool = False
    choices: tuple[str, ...] = ()
    default: Any = None
    also: tuple[str, ...] = ()
    inverse: tuple[str, ...] = ()
    since: Series | None = None
    until: Series | None = None
    before: Mapping[Series, dict[str, Any]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _changes_are_of_known_keys(self) -> Self:
        known = {"type", "many", "choices", "default", "also", "inverse"}
        if unknown := sorted({key for change in self.before.values() for key in change} - known):
            raise ValueError(f"{self.name}: `before` changes {', '.join(unknown)}")
        return self

    def there(self, series: str) -> bool:
        """Tell whether `series` has this option."""
        after = self.since is None or number(series) >= number(self.since)
        return after and (self.until is None or number(series) < number(self.until))

    def at(self, series: str) -> Option:
        """Return what `series` makes of this option."""
        facts: dict[str, Any] = {key: getattr(self, key) for key in ("type", "many", "default", "also", "inverse")}
        choices = set(self.choices)
        for changed in sorted(self.before, key=number, reverse=True):
            if number(series) >= number(changed):
                break
            facts.update({key: value for key, value in self.before[changed].items() if key != "choices"})
            choices = _choices(choices, self.before[changed].get("choices", {}))
        off = (f"no-{self.name}", *(facts["inverse"] or ())) if facts["type"] == Kind.FLAG else ()
        return Option(
            name=self.name,
            kind=Kind(facts["type"]),
            many=bool(facts["many"]),
            choices=tuple(sorted(choices)),
            default=facts["default"],
            also=tuple(facts["also"] or ()),
            off=off,
        )


class ReleaseRow(Entry):
    """One release whose parser was read."""

    version: Annotated[str, Field(pattern=r"^\d+\.\d+\.\d+")]


class OptionBook(Book):
    """The whole file."""

    options: Annotated[tuple[OptionRow, ...], Field(min_length=1)]
    releases: Annotated[tuple[ReleaseRow, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _each_option_once(self) -> Self:
        if len({row.name for row in self.options}) != len(self.options):
            raise ValueError("an option is listed twice")
        return self


def number(series: str) -> tuple[int, ...]:
    """Return a series as numbers, to compare it."""
    return tuple(int(part) for part in series.split("."))


@cache
def option_book() -> OptionBook:
    """Return the checked file."""
    return read(OptionBook, HERE / "vllm_options.yaml")


@cache
def known_series() -> tuple[str, ...]:
    """Return every series whose options are known, oldest first."""
    return tuple(".".join(row.version.split(".")[:2]) for row in option_book().releases)


def option_row(name: str) -> OptionRow | None:
    """Find an option of any series by its full name."""
    return next((row for row in option_book().options if row.name == name), None)


def option_table(version: str) -> OptionTable:
    """Return the options of vLLM `version`; raises RackhandError `unknown-engine` for a series nobody has read."""
    return _table(".".join(version.split(".")[:2]), version)


@cache
def _table(series: str, version: str) -> OptionTable:
    known = known_series()
    if series not in known:
        what = f"the options of vLLM {version} are not in the catalogue, which knows {known[0]} to {known[-1]}"
        raise RackhandError("unknown-engine", what, "engine_version", f"choose one of these, newest {known[-1]}")
    options = [row.at(series) for row in option_book().options if row.there(series)]
    names = {name: option for option in options for name in (option.name, *option.also, *option.off)}
    return OptionTable(series, names)


def _choices(now: set[str], change: Any) -> set[str]:
    if isinstance(change, Mapping):
        return now - set(change.get("lacked", ())) | set(change.get("had", ()))
    return set(change or ())
