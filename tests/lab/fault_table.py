"""Write docs/evidence/fault-matrix.md: python -m tests.lab.fault_table [RECORD]

RECORD is what a whole run kept (tests/lab/test_fault_matrix.py); it becomes docs/evidence/fault-matrix.json.
"""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.lab.fault_kinds import FAULTS
from tests.lab.fault_matrix import LEFT_OUT, PAIRS, POSSIBLE, Pair, covering, figures, reason
from tests.lab.fault_moments import MOMENTS

EVIDENCE = Path(__file__).resolve().parents[2] / "docs/evidence"
RECORD, TABLE = EVIDENCE / "fault-matrix.json", EVIDENCE / "fault-matrix.md"
LETTERS = "abcdefghijklmnopqrstuvwxyz"
HEAD = """\
# Faults at every step

Written by `python -m tests.lab.fault_table`; edits are lost. The matrix is generated in `tests/lab/fault_matrix.py` and
played by `tests/lab/test_fault_matrix.py` on practice hosts: real systemd, real SSH, a real HAProxy, stand-in engines.
A GPU host serves an old release, a run goes over to a new one, and a fault strikes at one step. Then, without anybody's
help, the host must serve a release whose gate passed, in service and enabled, with all processes on its configuration;
no order may be open; tokens must come through the router; the report must say what serves, and the exit status whether
the run got there. Running it again without the fault must end healthy.
"""
PROCESS = """\
What a process may be killed between is finer than these steps: `tests/test_turn_crashes.py` kills the host's own
program before every single one of its deeds, with and without a loss of power, watched and alone.
"""
Record = Mapping[str, Mapping[str, Any]]


def recorded(path: Path = RECORD) -> Record:
    """Return what came of each pair when it was recorded last, by the pair's name."""
    found = json.loads(path.read_text()) if path.exists() else []
    return {each["pair"]: each for each in found}


def table(record: Record) -> str:
    """Write the page."""
    played = [pair for pair in PAIRS if pair.name in record]
    wrong = [pair for pair in played if record[pair.name]["wrongs"]]
    seconds = sum(record[pair.name]["seconds"] for pair in played)
    whole = f"What is recorded below: {figures(played)}. {len(wrong)} of these pairs ended with something wrong."
    mean = f" A pair took {seconds / len(played):.0f} s in the mean, on a busy machine." if played else ""
    rest = f" {len(PAIRS) - len(played)} pairs have not been recorded yet." if len(played) < len(PAIRS) else ""
    parts = [
        HEAD,
        whole + mean + rest + _wrong(record),
        f"Each run of the tests: {figures(covering(PAIRS, 0))}.",
        PROCESS,
    ]
    parts += ["## Steps and faults", _grid(record), _reasons(), "## Steps", _steps(), "## Faults", _faults()]
    return "\n\n".join(part.rstrip("\n") for part in parts) + "\n"


def _wrong(record: Record) -> str:
    """Name the pairs that ended with something wrong."""
    found = [f"- **{name}**: {'; '.join(each['wrongs'])}" for name, each in record.items() if each["wrongs"]]
    return "\n\n" + "\n".join(found) if found else ""


def _grid(record: Record) -> str:
    head = ["step", *(fault.name for fault in FAULTS)]
    rows = [[moment.step, *(_cell(pair, record) for pair in POSSIBLE if pair.moment is moment)] for moment in MOMENTS]
    words = "`new` and `old` say which release served at the end, **bold** that something was wrong, a letter why a"
    return f"{_markdown(head, rows)}\n\n{words} pair is left out."


def _cell(pair: Pair, record: Record) -> str:
    why = reason(pair)
    if why:
        return LETTERS[[each.why for each in LEFT_OUT].index(why)]
    outcome = record.get(pair.name)
    if outcome is None:
        return "not yet run"
    return f"**{outcome['current']}**" if outcome["wrongs"] else f"`{outcome['current']}`"


def _reasons() -> str:
    return "\n".join(f"- {LETTERS[number]}: {each.why}" for number, each in enumerate(LEFT_OUT))


def _steps() -> str:
    return _markdown(["step", "recognised by", "strikes"], [[each.step, each.by, each.where] for each in MOMENTS])


def _faults() -> str:
    return _markdown(["fault", "how"], [[each.name, each.how] for each in FAULTS])


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in _lines(head, rows))


def _lines(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[Sequence[str]]:
    yield head
    yield ["---"] * len(head)
    yield from rows


if __name__ == "__main__":
    if sys.argv[1:]:
        RECORD.write_text(Path(sys.argv[1]).read_text())
    TABLE.write_text(table(recorded()))
