"""What the engines of a release reported at their start, kept beside the release's own files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rackhand.remote import files

RECORD = "measured.json"
SCHEMA = "rackhand.measured/1"
# Of how many releases records are read: the current one, and those made last.
RELEASES = 8


def keep(root: str, release: str, instances: list[dict[str, Any]]) -> None:
    """Write down what these instances of a release reported, in place of what they reported before."""
    path = Path(root, "releases", release, RECORD)
    names = {item["name"] for item in instances}
    others = [item for item in _read(path) if item.get("name") not in names]
    text = json.dumps({"schema": SCHEMA, "instances": [*others, *instances]}, indent=1, sort_keys=True) + "\n"
    files.write(path, text)


def kept(base: Path) -> list[dict[str, Any]]:
    """Return the records of the current release, then of those that were measured last."""
    current = base / "current"
    serving = current.readlink().name if current.is_symlink() else ""
    found = sorted(base.glob(f"releases/[!.]*/{RECORD}"), key=lambda path: path.stat().st_mtime, reverse=True)
    found.sort(key=lambda path: path.parent.name != serving)
    return [
        {**item, "release": path.parent.name, "running": path.parent.name == serving}
        for path in found[:RELEASES]
        for item in _read(path)
    ]


def _read(path: Path) -> list[dict[str, Any]]:
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError):
        return []
    items = value.get("instances") if isinstance(value, dict) and value.get("schema") == SCHEMA else None
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []
