"""Find every error code in the sources: what stands where a code belongs."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from rackhand.catalog import failures
from rackhand.catalog.health import health_codes
from rackhand.remote import nvml

ROOT = Path(__file__).parent.parent
# Which argument of a call is the code.
POSITION = {"RackhandError": 0, "Problem": 0, "Rejected": 0, "error": 0, "_error": 0, "_told": 2, "_problem": 1}
POSITION |= {"_require": 1, "Failed": 0}
# Probe states that rackhand.remote.gpu adds because the probe itself could not say them.
OUTER_STATES = ("hangs", "crashed", "error")


def sources() -> list[Path]:
    """Return the product's modules."""
    return sorted([*ROOT.glob("rackhand/**/*.py"), *ROOT.glob("tasks/*.py")])


@cache
def parsed(path: Path) -> ast.Module:
    """Return the syntax tree of a module; it takes a while for all of them."""
    return ast.parse(path.read_text())


@cache
def all_codes() -> frozenset[str]:
    """Return every code that a run can end with."""
    found = {code for path in sources() for code in written(parsed(path))}
    states = {f"nvml-{state}" for state in (*nvml.STATES.values(), *OUTER_STATES)}
    return frozenset(found | states | health_codes() | {failure.code for failure in failures()})


def written(tree: ast.AST) -> Iterator[str]:
    """Yield the codes in calls, in tables named CAUSES, and in results of the gate."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield from _in_call(node)
        elif isinstance(node, ast.Assign) and [getattr(target, "id", "") for target in node.targets] == ["CAUSES"]:
            yield from (row[1] for row in ast.literal_eval(node.value))


def _in_call(node: ast.Call) -> Iterator[str]:
    name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
    words = ("code", "failure") if name in POSITION else ("failure",)
    values = [keyword.value for keyword in node.keywords if keyword.arg in words]
    if name in POSITION and len(node.args) > POSITION[name]:
        values.append(node.args[POSITION[name]])
    for value in values:
        texts = (value.body, value.orelse) if isinstance(value, ast.IfExp) else (value,)
        yield from (text.value for text in texts if isinstance(text, ast.Constant) and isinstance(text.value, str))
