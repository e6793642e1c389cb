"""Write docs/reference/rules.md from the tables: python -m rackhand.diagnose.reference"""

from pathlib import Path
from typing import Any

from rackhand.diagnose.checklist import CHECKLIST
from rackhand.diagnose.rule import Question, Table
from rackhand.diagnose.symptoms import DIAGNOSIS

PAGE = Path(__file__).parents[2] / "docs/reference/rules.md"
HEAD = """\
# Rules of checklist and diagnose

Written by `python -m rackhand.diagnose.reference` from the tables that the two commands judge by. Both only look.

A finding in `--json` has `question` (the rule's number), `title`, `verdict`, `number`, `code` (the row), `advice` (a
list of steps) and `source` (related rules, R, and corrections of common advice, C). The document has `schema`,
`verdict` (the worst), `engines` (each with `where`, `verdict`, `findings`) and `problems` (what could not be looked at,
as in the [report](report.md)). Exit status: 0 nothing failed, 2 something did, 1 something could not be looked at.

A verdict is `pass`, `warn`, `fail`, or `n/a` where what the rule needs was not seen. A step whose number (in braces
below) the engine did not say is left out. How to use it: [when it is slow](../how-to/when-it-is-slow.md).
"""
CHECKLIST_HEAD = "\n## rackhand checklist\n\nSchema `rackhand.checklist/1`. The first row that holds is the answer.\n"
DIAGNOSE_HEAD = "\n## rackhand diagnose\n\nSchema `rackhand.diagnose/1`. Of causes, every row that holds is named.\n"


def render() -> str:
    """Return the page."""
    return HEAD + CHECKLIST_HEAD + _table(CHECKLIST) + DIAGNOSE_HEAD + _table(DIAGNOSIS)


def _table(table: Table) -> str:
    return "".join(_section(question) for question in table)


def _section(question: Question[Any]) -> str:
    needs = "" if question.quiet else f" Needs {question.needs}."
    head = f"\n### {question.code}: {question.title}\n\nSource: {question.source}.{needs}\n\n"
    rows = [f"| `{row.code}` | {row.verdict} | {'; '.join(row.advice) or '-'} |\n" for row in question.rows]
    return head + "| code | verdict | advice |\n|---|---|---|\n" + "".join(rows)


if __name__ == "__main__":
    PAGE.write_text(render())
