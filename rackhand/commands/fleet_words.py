"""A fleet as a table for a terminal, and what is said of its hosts, each thing once. Pure."""

from collections.abc import Mapping, Sequence

from rich.text import Text

from rackhand.outcome import Problem
from rackhand.terminal import Terminal

Row = Mapping[str, str | Text]
MOST_NAMES = 8


def table(
    rows: Sequence[Row],
    columns: Sequence[str],
    terminal: Terminal,
    *,
    numbers: Sequence[str] = (),
    shareable: Sequence[str] = (),
    spare: Sequence[str] = (),
    wraps: str = "",
) -> list[str]:
    """Draw rows; the first column is the host, and a later row of the same host leaves it out.

    What is `shareable` and the same everywhere is said once above. Where the terminal is too narrow, `spare` columns
    are left out, the first one first, and the column `wraps` may take several lines.
    """
    if not rows:
        return []
    several = sum(bool(row.get(columns[0])) for row in rows) > 1
    values = {name: {str(row[name]) for row in rows if row.get(name)} for name in shareable}
    shared = {name: found.pop() for name, found in values.items() if len(found) == 1 and several}
    names = [name for name in columns if name not in shared]
    for each in spare:
        if _width(names, rows) > terminal.width and each in names:
            names.remove(each)
    head = [terminal.say(" · ".join(f"{name} {value}" for name, value in shared.items())), ""] if shared else []
    whole = [name for name in names if name not in (columns[0], wraps)]
    return [*head, *terminal.table(names, [[row.get(name, "") for name in names] for row in rows], numbers, whole)]


def _width(names: Sequence[str], rows: Sequence[Row]) -> int:
    return sum(max(len(text) for text in (name, *(str(row.get(name, "")) for row in rows))) + 2 for name in names)


def told(problems: Sequence[Problem], before: str, terminal: Terminal) -> list[str]:
    """Tell each thing once, with all the places that it is about."""
    places: dict[tuple[str, str, str, tuple[str, ...]], list[str]] = {}
    for each in problems:
        places.setdefault((each.what, each.code, each.next_step, each.evidence), []).append(each.where)
    lines = []
    for (what, code, step, evidence), where in places.items():
        rest = f" and {len(where) - MOST_NAMES} more" if len(where) > MOST_NAMES else ""
        names = f"{', '.join(where[:MOST_NAMES])}{rest}"
        lines += terminal.paragraph(f"{before}{names}: {what} [{code}] → {step}", later="  ")
        lines += [terminal.say(f"  │ {line}") for line in evidence]
    return lines
