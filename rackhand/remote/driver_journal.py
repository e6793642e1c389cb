"""How far the last change of the driver came: driver/change.json, written before and after it.

{run, from, to, previous: names of sets, direction: forward | back, phase: begun | done | healthy, rebooted: bool,
why: text}. `from` is the set that is known to be good, empty where none is stored; a change that is not `healthy` can
be undone, and `why` says what was in the way of that.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rackhand.remote import driver_store, files, state

CHANGE = "driver/change.json"
FORWARD, BACK = "forward", "back"
BEGUN, DONE, HEALTHY = "begun", "done", "healthy"
NAMES = ("from", "to", "previous")


def change(base: Path) -> dict[str, Any]:
    """Return the last change; every field is there, and empty where there was none."""
    found = state.read_json(base / CHANGE)
    texts = {name: str(found.get(name) or "") for name in ("run", *NAMES, "direction", "phase", "why")}
    return {**texts, "rebooted": bool(found.get("rebooted"))}


def good(found: dict[str, Any]) -> str:
    """Name the set that is known to be good; empty without one."""
    forward = found["direction"] != BACK
    return str(found["to"] if forward and found["phase"] == HEALTHY else found["from"])


def settled(found: dict[str, Any]) -> bool:
    """Tell whether nothing is left to be done or undone about a change."""
    back = found["direction"] == BACK
    return not found["phase"] or found["phase"] == HEALTHY or (back and found["phase"] == DONE)


def begin(base: Path, run: str, to: str) -> None:
    """Write down that the driver is about to become another set, and to which it goes back otherwise."""
    before = change(base)
    known, here = good(before), driver_store.installed(base)
    start = (here or known) if settled(before) else (known or here)
    older = (known, before["from"], before["previous"])
    previous = next((name for name in older if name not in ("", start, to)), "")
    _write(base, {"run": run, "from": start, "to": to, "previous": previous, "direction": FORWARD, "phase": BEGUN})


def mark(base: Path, phase: str, **more: Any) -> None:
    """Write down how far the change has come."""
    _write(base, {**change(base), "phase": phase, **more})


def go_back(base: Path, run: str) -> None:
    """Write down that this run undoes the change; one that began with it goes on."""
    found = change(base)
    if (found["run"], found["direction"]) != (run, BACK):
        _write(base, {**found, "run": run, "direction": BACK, "phase": BEGUN, "rebooted": False, "why": ""})


def healthy(base: Path) -> None:
    """Keep for good what there is: a release serves on it. Nothing is written where that is known."""
    found = change(base)
    if not settled(found):
        undone = driver_store.installed(base) == found["from"]
        mark(base, HEALTHY, direction=BACK if undone else FORWARD)


def owed(base: Path) -> str:
    """Name the set to which an unproven change is to be undone; empty where there is nothing to undo, or no set."""
    found = change(base)
    return "" if settled(found) or found["from"] == found["to"] else str(found["from"])


def find(base: Path, version: str, packages: Sequence[str]) -> str:
    """Name the stored set of a driver version with all these packages; empty without one.

    Of several it is the one that is known to be good, or was here before; else the newest.
    """
    found, fitting = change(base), driver_store.fitting(base, version, packages)
    known = (good(found), *(found[name] for name in NAMES))
    return next((name for name in (*known, *fitting) if name in fitting), "")


def version(name: str) -> str:
    """Return the driver's version of a set, by its name."""
    return name.rpartition("-")[0]


def standing(base: Path) -> dict[str, Any]:
    """Say which sets are stored, which of them the host should have, and in what it differs from that."""
    found, stored = change(base), driver_store.sets(base)
    current = found["to"] if found["direction"] == FORWARD else found["from"]
    wanted = stored.get(current)
    return {
        "current": current,
        "previous": found["previous"],
        "phase": found["phase"],
        "direction": found["direction"],
        "installed": driver_store.installed(base),
        "sets": {
            name: {"version": each["version"], "packages": sorted({*each["members"], *each["beside"]})}
            for name, each in stored.items()
        },
        "off": driver_store.differences(wanted) if wanted else [],
        "loose": driver_store.loose(wanted) if wanted else [],
    }


def _write(base: Path, content: dict[str, Any]) -> None:
    path = base / CHANGE
    files.write(path, json.dumps(content, sort_keys=True) + "\n")
    files.settle(path.parent)
