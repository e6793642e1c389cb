"""failures.yaml: which log lines of a vLLM that did not start decide, and which tell how far a start has come."""

import re
import string
from functools import cache
from typing import Annotated, Self

from pydantic import Field, field_validator, model_validator

from rackhand.catalog.book import HERE, Book, Entry, read

Sentence = Annotated[str, Field(min_length=1)]


class Line(Entry):
    """A regular expression that is searched for in a log line without its prefix."""

    pattern: str

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, pattern: str) -> str:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from None
        return pattern

    def search(self, text: str) -> re.Match[str] | None:
        return re.search(self.pattern, text)

    def fill(self, words: str, found: re.Match[str]) -> str:
        """Put the match's named groups into `words`."""
        return words.format_map({name: value or "?" for name, value in found.groupdict().items()})

    def missing_groups(self, *texts: str) -> set[str]:
        """Name the placeholders that the pattern has no group for."""
        wanted = {name for text in texts for _, name, _, _ in string.Formatter().parse(text) if name is not None}
        return wanted - re.compile(self.pattern).groupindex.keys()


class Failure(Line):
    """One way to fail; `vague` marks lines that are often only the aftermath of another failure.

    `fatal` means that waiting longer is pointless as soon as the line is seen; a warning is searched only with
    `in_warnings`, and never ends the wait.
    """

    code: Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]
    cause: Sentence
    remedy: Sentence
    fatal: bool = True
    vague: bool = False
    in_warnings: bool = False

    @model_validator(mode="after")
    def _groups_exist(self) -> Self:
        if missing := sorted(self.missing_groups(self.cause, self.remedy)):
            raise ValueError(f"{self.code}: no group named {', '.join(missing)} in the pattern")
        return self


class Phase(Line):
    """One step of a start; `words` say what goes on after the line."""

    words: Sentence

    @model_validator(mode="after")
    def _groups_exist(self) -> Self:
        if missing := sorted(self.missing_groups(self.words)):
            raise ValueError(f"no group named {', '.join(missing)} in the pattern")
        return self


class FailureBook(Book):
    """The whole file; `wrappers` are lines that only point to another one."""

    failures: tuple[Failure, ...]
    wrappers: tuple[Line, ...]
    phases: tuple[Phase, ...]


@cache
def _book() -> FailureBook:
    return read(FailureBook, HERE / "failures.yaml")


def failures() -> tuple[Failure, ...]:
    """Return every known failure, the more exact pattern first."""
    return _book().failures


def wrappers() -> tuple[Line, ...]:
    """Return the lines that are never the cause."""
    return _book().wrappers


def phases() -> tuple[Phase, ...]:
    """Return the steps of a start, in their order."""
    return _book().phases
