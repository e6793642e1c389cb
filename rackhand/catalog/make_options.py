"""Make vllm_options.yaml from what parser_dump.py wrote, one file per release, named VERSION.json.

`python -m rackhand.catalog.make_options DIRECTORY`: the same files always make the same bytes. A new release is one
more dump in that directory, beside the others.
"""

import ast
import json
import re
import sys
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from rackhand.catalog.book import HERE

FILE = HERE / "vllm_options.yaml"
HEAD = """\
# What `vllm serve` takes, release by release. Made by `python -m rackhand.catalog.make_options`; do not edit by hand.
# `since` and `until` name the first series that has an option and the first that lacks it; without them it is in all.
# `before` says, for each series that changed a row, what the series before it said; of choices only the difference.
"""
SOURCE = "the wheels' own argument parsers, read with rackhand/catalog/parser_dump.py on a machine without a GPU"
CONVERTERS = {
    "int": "int",
    "float": "float",
    "human_readable_int": "count",
    "human_readable_int_or_auto": "context",
    "loads": "json",
    "parse_dataclass": "json",
    "union_dict_and_str": "any",
    # The three backends of kernels, which take any case and dashes for underscores.
    "<lambda>": "word",
}
FLAGS = {"BooleanOptionalAction": "flag", "EnableDisableAction": "flag", "_StoreTrueAction": "switch"}
Row = dict[str, Any]


def releases(directory: Path) -> dict[str, list[Row]]:
    """Read the newest dump of every series, oldest series first."""
    found = {path.stem: json.loads(path.read_text()) for path in directory.glob("*.json")}
    newest = {series(version): version for version in sorted(found, key=_order)}
    return {version: found[version] for version in newest.values()}


def series(version: str) -> str:
    """Return 0.33 for 0.33.1."""
    return ".".join(version.split(".")[:2])


def book(dumps: Mapping[str, list[Row]]) -> dict[str, Any]:
    """Return the whole catalogue file as plain data."""
    options: dict[str, dict[str, Row]] = {}
    for version, dump in dumps.items():
        for action in dump:
            if (name := _name(action)) and action["action"] != "_HelpAction":
                options.setdefault(name, {})[version] = _facts(action, name)
    return {
        "sources": {"parser": SOURCE},
        "options": [_row(name, options[name], list(dumps)) for name in sorted(options)],
        "releases": [{"version": version, "source": ["parser"]} for version in dumps],
    }


def text(dumps: Mapping[str, list[Row]]) -> str:
    """Return the catalogue file: one line for each option."""
    data = book(dumps)
    lines = [HEAD, "sources:\n", *(f"  {key}: {value}\n" for key, value in data["sources"].items())]
    for part in ("options", "releases"):
        lines += [f"\n{part}:\n", *(f"  - {_flow(row)}\n" for row in data[part])]
    return "".join(lines)


def _order(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))


def _name(action: Row) -> str:
    return next((option[2:] for option in action["opts"] if option.startswith("--")), "")


def _facts(action: Row, name: str) -> Row:
    """Return what one release says of one option; keys without news are left out."""
    kind = FLAGS.get(action["action"]) or CONVERTERS.get((action["type"] or "").split(":")[-1], "text")
    if kind == "word" and not action["choices"]:
        kind = "text"
    long = [option[2:] for option in action["opts"] if option.startswith("--")][1:]
    facts: Row = {"type": kind}
    if action["nargs"] in ("+", "*") or action["action"] == "_AppendAction":
        facts["many"] = True
    if other := [option for option in long if option != f"no-{name}"]:
        facts["inverse" if kind == "flag" else "also"] = other
    if action["choices"]:
        facts["choices"] = sorted(choice for choice in action["choices"] if choice != "None")
    if (default := _default(action["default"])) is not None:
        facts["default"] = default
    return facts


def _default(written: str) -> Any:
    """Return a plain default; what vLLM computes at start, and whole configuration objects, are left out."""
    enum = re.fullmatch(r"<\w+\.\w+: (.*)>", written)
    try:
        value = ast.literal_eval(enum[1] if enum else written)
    except (ValueError, SyntaxError):
        return None
    return value if isinstance(value, bool | int | float | str | list) and value != "==SUPPRESS==" else None


def _row(name: str, seen: Mapping[str, Row], versions: Sequence[str]) -> Row:
    """Fold the releases' facts into one row: what the last release says, and where it was otherwise before."""
    having = [version for version in versions if version in seen]
    first, last = versions.index(having[0]), versions.index(having[-1])
    if having != list(versions[first : last + 1]):
        raise SystemExit(f"{name}: went and came back, which this file cannot say")
    row: Row = {"name": name, **seen[having[-1]], "source": ["parser"]}
    if first:
        row["since"] = series(versions[first])
    if last + 1 < len(versions):
        row["until"] = series(versions[last + 1])
    if before := _before(seen, having):
        row["before"] = before
    return row


def _before(seen: Mapping[str, Row], having: Sequence[str]) -> dict[str, Row]:
    """Say, for each release that changed an option, what the release before it had."""
    changes: dict[str, Row] = {}
    for older, newer in pairwise(having):
        old, new = seen[older], seen[newer]
        keys = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
        if keys:
            changes[series(newer)] = {key: _change(key, old.get(key), new.get(key)) for key in keys}
    return changes


def _change(key: str, older: Any, newer: Any) -> Any:
    if key != "choices" or not older or not newer:
        return older
    return {"lacked": sorted(set(newer) - set(older)), "had": sorted(set(older) - set(newer))}


def _flow(row: Row) -> str:
    return yaml.safe_dump(row, default_flow_style=True, sort_keys=False, width=10**6).strip()


if __name__ == "__main__":
    FILE.write_text(text(releases(Path(sys.argv[1]))))
