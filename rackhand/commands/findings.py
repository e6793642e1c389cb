"""Show findings: a table for people, JSON for programs, and the exit status that follows."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.text import Text

from rackhand.commands import seeing
from rackhand.commands.show import document
from rackhand.diagnose.rule import Finding, Table, Verdict, judge, worst
from rackhand.errors import RackhandError
from rackhand.outcome import Problem
from rackhand.report_json import problem_json
from rackhand.terminal import Terminal, write

NO_FAIL, TROUBLE, FAIL = 0, 1, 2
STYLES = {Verdict.FAIL: "bold red", Verdict.WARN: "yellow", Verdict.PASS: "green", Verdict.NOT_APPLICABLE: "dim"}
COLUMNS = ("verdict", "rule", "what", "number")


@dataclass(frozen=True, kw_only=True)
class Judged:
    """One engine and the answers about it."""

    where: str
    findings: tuple[Finding, ...]


def answer(arguments: argparse.Namespace, table: Table, schema: str, *, gate: bool) -> int:
    """Look at what was named, judge it by a table, print the findings; return the exit status."""
    seen, problems = seeing.observations(arguments, gate=gate)
    judged = [Judged(where=each.where, findings=judge(table, each)) for each in seen]
    if arguments.json:
        write(document(to_json(schema, judged, problems)), sys.stdout)
    else:
        write(words(judged, problems, Terminal.of(sys.stdout)), sys.stdout)
    return status(judged, problems)


def status(judged: Sequence[Judged], problems: Sequence[RackhandError]) -> int:
    """Return 1 when something could not be looked at, 2 when something failed, else 0."""
    if problems:
        return TROUBLE
    return FAIL if worst([finding for each in judged for finding in each.findings]) is Verdict.FAIL else NO_FAIL


def words(judged: Sequence[Judged], problems: Sequence[RackhandError], terminal: Terminal) -> str:
    """Return a table per engine with the advice below it, then what could not be looked at, and a count."""
    blocks = [_block(each, terminal) for each in judged]
    blocks += [_trouble(error, terminal) for error in problems]
    return "\n\n".join("\n".join(block) for block in [*blocks, [_count(judged)]])


def to_json(schema: str, judged: Sequence[Judged], problems: Sequence[RackhandError]) -> dict[str, Any]:
    """Return the findings for programs; docs/reference/rules.md lists the codes."""
    return {
        "schema": schema,
        "verdict": str(worst([finding for each in judged for finding in each.findings])),
        "engines": [
            {
                "where": each.where,
                "verdict": str(worst(each.findings)),
                "findings": [_finding_json(finding) for finding in each.findings],
            }
            for each in judged
        ],
        "problems": [problem_json(Problem.of(error)) for error in problems],
    }


def _finding_json(finding: Finding) -> dict[str, Any]:
    return {
        "question": finding.question,
        "title": finding.title,
        "verdict": str(finding.verdict),
        "number": finding.number,
        "code": finding.code,
        "advice": list(finding.advice),
        "source": finding.source,
    }


def _block(each: Judged, terminal: Terminal) -> list[str]:
    rows = [_row(finding, terminal) for finding in each.findings]
    lines = [terminal.say(each.where), "", *terminal.table(COLUMNS, rows)]
    advised = [finding for finding in each.findings if finding.advice]
    return [*lines, *(line for finding in advised for line in ("", *_advice(finding, terminal)))]


def _row(finding: Finding, terminal: Terminal) -> list[str | Text]:
    verdict = terminal.styled(finding.verdict, STYLES[finding.verdict])
    return [verdict, finding.question, finding.title, terminal.styled(finding.number)]


def _advice(finding: Finding, terminal: Terminal) -> list[str]:
    lines = [terminal.say(f"{finding.question} {finding.title} [{finding.code}]")]
    for step in finding.advice:
        lines += terminal.paragraph(step, first="  → ", later="    ")
    return lines


def _trouble(error: RackhandError, terminal: Terminal) -> list[str]:
    return [*terminal.paragraph(str(error)), *(terminal.say(f"  │ {line}") for line in error.evidence)]


def _count(judged: Sequence[Judged]) -> str:
    found = [finding.verdict for each in judged for finding in each.findings]
    counts = [f"{found.count(verdict)} {verdict}" for verdict in reversed(Verdict) if verdict in found]
    return ", ".join(counts) or "nothing was judged"
