"""Decision tables: questions with rows, an observation in, findings out."""

import string
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Generic, TypeVar

from rackhand.diagnose.observation import Observation

Seen = TypeVar("Seen")


class Verdict(StrEnum):
    """How a question was answered; the worst first."""

    FAIL = "fail"
    WARN = "warn"
    PASS = "pass"
    NOT_APPLICABLE = "n/a"


@dataclass(frozen=True, kw_only=True)
class Row(Generic[Seen]):
    """One row of a table: the condition, the verdict, the number behind it, and what to do, step by step.

    `code` is stable. Steps may hold placeholders for what `values` gives; a step whose value is not there is left out.
    """

    code: str
    when: Callable[[Seen], bool]
    verdict: Verdict
    number: Callable[[Seen], str]
    advice: tuple[str, ...] = ()
    values: Callable[[Seen], Mapping[str, str]] | None = None

    def steps(self, seen: Seen) -> tuple[str, ...]:
        """Return the advice with its numbers."""
        values = self.values(seen) if self.values else {}
        wanted = ({name for _, name, _, _ in string.Formatter().parse(step) if name} for step in self.advice)
        pairs = zip(self.advice, wanted, strict=True)
        return tuple(step.format_map(values) for step, names in pairs if names <= values.keys())


@dataclass(frozen=True, kw_only=True)
class Question(Generic[Seen]):
    """One question with its rows; the first row that holds answers, with `every` each row that holds.

    `look` takes from an observation what the rows judge, None where `needs` is missing. `source` are the requirements
    (R) and corrections (C) that the rows come from, `quiet` leaves the question out where no row holds.
    """

    code: str
    title: str
    source: str
    look: Callable[[Observation], Seen | None]
    needs: str
    rows: tuple[Row[Seen], ...]
    every: bool = False
    quiet: bool = False


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One answer; `code` names the row, empty where nothing could be judged, and `advice` says what to do."""

    question: str
    title: str
    verdict: Verdict
    number: str
    code: str = ""
    advice: tuple[str, ...] = ()
    source: str = ""


Table = tuple[Question[Any], ...]


def judge(table: Table, seen: Observation) -> tuple[Finding, ...]:
    """Answer every question of a table, in its order."""
    return tuple(finding for question in table for finding in _answer(question, seen))


def worst(findings: Sequence[Finding]) -> Verdict:
    """Return the worst verdict; of nothing it is NOT_APPLICABLE."""
    found = {finding.verdict for finding in findings}
    return next((verdict for verdict in Verdict if verdict in found), Verdict.NOT_APPLICABLE)


def _answer(question: Question[Any], seen: Observation) -> Iterator[Finding]:
    what = question.look(seen)
    rows = [] if what is None else [row for row in question.rows if row.when(what)]
    asked = Finding(
        question=question.code,
        title=question.title,
        verdict=Verdict.NOT_APPLICABLE,
        number=f"needs {question.needs}",
        source=question.source,
    )
    for row in rows if question.every else rows[:1]:
        yield replace(asked, verdict=row.verdict, number=row.number(what), code=row.code, advice=row.steps(what))
    if not rows and not question.quiet:
        yield asked
