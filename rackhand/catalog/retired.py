"""retired.yaml: what vLLM no longer has, by name, with its replacement."""

import re
from functools import cache
from typing import Annotated

from pydantic import Field, field_validator

from rackhand.catalog.book import HERE, Book, Entry, read
from rackhand.catalog.vllm_options import Series, number
from rackhand.outcome import Problem

Sentence = Annotated[str, Field(min_length=1)]


class RetiredName(Entry):
    """An option or an environment variable; `gone` is the first series known to lack it, `use` what to do instead."""

    name: Sentence
    gone: Series
    use: Sentence

    def gone_in(self, series: str) -> bool:
        return number(series) >= number(self.gone)


class Deprecated(Entry):
    """An option that still works and warns."""

    name: Sentence
    since: Series
    use: Sentence


class RetiredValue(Entry):
    """A value that an option no longer takes."""

    option: Sentence
    value: Sentence
    gone: Series
    use: Sentence


class RetiredText(Entry):
    """A regular expression for a command or a metric; without `gone` it still works, and is deprecated."""

    pattern: Sentence
    name: Sentence
    gone: Series | None = None
    use: Sentence

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, pattern: str) -> str:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from None
        return pattern


class RetiredBook(Book):
    """The whole file."""

    options: tuple[RetiredName, ...]
    deprecated: tuple[Deprecated, ...]
    values: tuple[RetiredValue, ...]
    variables: tuple[RetiredName, ...]
    texts: tuple[RetiredText, ...]


@cache
def retired_book() -> RetiredBook:
    """Return the checked file."""
    return read(RetiredBook, HERE / "retired.yaml")


def retired_option(name: str) -> RetiredName | None:
    """Find what stands for an option that some series lacks."""
    return next((row for row in retired_book().options if row.name == name), None)


def retired_value(option: str, value: str, series: str) -> RetiredValue | None:
    """Find what stands for a value that `series` no longer takes."""
    rows = (row for row in retired_book().values if (row.option, row.value) == (option, value.lower()))
    return next((row for row in rows if number(series) >= number(row.gone)), None)


def instead(use: str) -> str:
    """Say what to do: "use X", or "remove it" with the reason where nothing takes its place."""
    if not use.startswith("nothing"):
        return f"use {use}"
    reason = use.removeprefix("nothing").lstrip(":; ")
    return f"remove it ({reason})" if reason else "remove it"


def check_text(text: str, where: str = "text") -> list[Problem]:
    """Find commands, metrics and variables in a unit, a script or a dashboard that vLLM no longer has."""
    return [
        problem
        for position, line in enumerate(text.splitlines(), 1)
        for problem in (*_commands(line, f"{where}:{position}"), *_variables(line, f"{where}:{position}"))
    ]


def _commands(line: str, where: str) -> list[Problem]:
    return [
        Problem(
            code="retired-text",
            what=f"vLLM has no {row.name}" if row.gone else f"{row.name} is deprecated",
            where=where,
            next_step=instead(row.use),
            evidence=(line.strip(),),
        )
        for row in retired_book().texts
        if re.search(row.pattern, line)
    ]


def _variables(line: str, where: str) -> list[Problem]:
    names = set(re.findall(r"\bVLLM_\w+", line))
    return [
        Problem(
            code="retired-variable",
            what=f"{row.name} is not read by vLLM {row.gone} and newer",
            where=where,
            next_step=instead(row.use),
            evidence=(line.strip(),),
        )
        for row in retired_book().variables
        if row.name in names
    ]
