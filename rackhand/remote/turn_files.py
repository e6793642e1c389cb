"""The files of an order under turn/: what was asked, how far it came, what was told, how it ended."""

from __future__ import annotations

import contextlib
import json
import os
import time
from pathlib import Path
from typing import Any

from rackhand.remote import files, state

PROGRESS = "turn/progress.json"
EVENTS = "turn/events.jsonl"
RESULT = "turn/result.json"
HEARD = "turn/heard"
CONFIRMED = "turn/confirmed"
ABORT = "turn/abort.json"
# What the controller says beside them where the disk is full; gone with the next boot.
RUN = Path("/run/rackhand")
# Space that is given back to a full disk before the way back is begun.
RESERVE = "turn/reserve"
RESERVE_BYTES = 1 << 20
# When the program was started to go back, in seconds since the epoch, since the last boot.
ATTEMPTS = "turn/attempts.json"
PRIVATE = 0o600
# What an order that nobody can read is taken for: one that is to be undone.
DEFAULTS: dict[str, Any] = {
    "run": "", "kind": "", "purpose": "", "to": "", "start": [], "at_once": 1, "confirm_s": 0, "hold_s": 0,
    "drain": {"timeout_s": 60, "on_timeout": "proceed"}, "gate": {"request_timeout_s": 60}, "stop_timeout_s": 330,
    "fatal": [], "user": "vllm", "created": 0.0,
    "driver": {"timeout_s": 3600, "reboot": True, "reboot_s": 1800, "services": [], "modules": ["nvidia"]},
}  # fmt: skip


def order(base: Path) -> dict[str, Any] | None:
    """Return the open order; one that nobody can read is an order all the same, with little in it."""
    path = base / state.ORDER
    if not path.exists():
        return None
    found = state.read_json(path)
    return {**DEFAULTS, **found} if _sound(found) else {**DEFAULTS, "run": str(progress(base).get("run") or "")}


def _sound(found: dict[str, Any]) -> bool:
    """Tell whether an order is one that was written by rackhand.remote.order."""
    kinds = {name: (int, float) if isinstance(value, (int, float)) else type(value) for name, value in DEFAULTS.items()}
    fine = all(isinstance(found.get(name, DEFAULTS[name]), kind) for name, kind in kinds.items())
    return bool(found.get("run")) and fine and isinstance(found.get("before"), dict)


def progress(base: Path) -> dict[str, Any]:
    """Return how far the open order came."""
    return state.read_json(base / PROGRESS)


def write(base: Path, name: str, content: dict[str, Any]) -> None:
    """Put one of these files in place so that it survives a power cut."""
    files.write(base / name, text(content), PRIVATE)
    files.settle(base / "turn")


def text(content: dict[str, Any]) -> str:
    return json.dumps(content, sort_keys=True) + "\n"


def clean(base: Path) -> None:
    """Leave nothing of an earlier order that could be taken for the next one's, and have space for the way back."""
    (base / "turn").mkdir(parents=True, mode=0o700, exist_ok=True)
    for name in (CONFIRMED, ABORT, RESULT, EVENTS, ATTEMPTS):
        _drop(base, name)
    files.write(base / RESERVE, os.urandom(RESERVE_BYTES), PRIVATE)
    hear(base)


def signal(base: Path, name: str, text: str) -> None:
    """Say something that counts at once, on the disk or, where that is full, in memory until the next boot."""
    try:
        files.write(base / name, text, PRIVATE)
    except OSError:
        files.write(_spare(name), text, PRIVATE)


def heeded(base: Path, name: str) -> str:
    """Return what was said last; empty for nothing."""
    for path in (_spare(name), base / name):
        with contextlib.suppress(OSError):
            return path.read_text()
    return ""


def _spare(name: str) -> Path:
    return RUN / name


def _drop(base: Path, name: str) -> None:
    for path in (_spare(name), base / name):
        path.unlink(missing_ok=True)


def tell(base: Path, phase: str, instance: str = "", detail: str = "") -> None:
    """Add one event for whoever watches; a full disk does not stop a switch for it."""
    event = {"at": round(time.time(), 3), "phase": phase, "instance": instance, "detail": detail}
    with contextlib.suppress(OSError), (base / EVENTS).open("a") as stream:
        stream.write(json.dumps(event) + "\n")


def events(base: Path, offset: int) -> tuple[list[dict[str, Any]], int]:
    """Return the events from a place in the file on, and the place after them."""
    try:
        with (base / EVENTS).open("rb") as stream:
            stream.seek(offset)
            raw = stream.read()
    except OSError:
        return [], offset
    whole = raw[: raw.rfind(b"\n") + 1]
    return [event for line in whole.splitlines() for event in _event(line)], offset + len(whole)


def _event(line: bytes) -> list[dict[str, Any]]:
    """Read an event; half of one, which a full disk or a power cut leaves, is none."""
    try:
        return [json.loads(line)]
    except ValueError:
        return []


def result(base: Path, run: str) -> dict[str, Any] | None:
    """Return how the last order of this run ended, or None."""
    found = _parsed(heeded(base, RESULT))
    return found if found.get("run") == run else None


def _parsed(said: str) -> dict[str, Any]:
    try:
        found = json.loads(said)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def conclude(base: Path, outcome: dict[str, Any]) -> None:
    """Write down how an order ended, which ends it."""
    signal(base, RESULT, text(outcome))
    files.settle(base / "turn")


def close(base: Path) -> None:
    """Take the order away: it is over, and all that it changed is on the disk before."""
    for folder in (base, state.UNIT.parent, state.WANTS):
        with contextlib.suppress(OSError):
            files.settle(folder)
    (base / state.ORDER).unlink(missing_ok=True)
    files.settle(base / "turn")


def room(place: Path) -> int:
    """Return how many bytes root may still write to a disk."""
    disk = os.statvfs(place)
    return disk.f_bfree * disk.f_frsize


def forget(base: Path) -> None:
    """Take away what only an open order has."""
    for name in (PROGRESS, CONFIRMED, ABORT, ATTEMPTS, RESERVE, HEARD):
        _drop(base, name)


def hear(base: Path) -> None:
    """Note that the controller was heard just now; on a full disk it is the note of before that counts."""
    with contextlib.suppress(OSError):
        (base / HEARD).touch()


def silent_s(base: Path) -> float:
    """Return for how many seconds nobody has heard from the controller."""
    try:
        return time.time() - (base / HEARD).stat().st_mtime
    except OSError:
        return float("inf")


def confirmed(base: Path, run: str) -> bool:
    """Tell whether the controller confirmed this run's order."""
    return heeded(base, CONFIRMED) == run


def aborted(base: Path, run: str) -> dict[str, Any] | None:
    """Return why the controller wants this run's order undone: {code, what}; None where it does not."""
    wish = _parsed(heeded(base, ABORT))
    return wish if wish.get("run") == run else None


def attempts(base: Path) -> list[float]:
    """Return when going back was tried for this order since the last boot."""
    return [*(_parsed(heeded(base, ATTEMPTS)).get("at") or ())]


def attempt(base: Path) -> list[float]:
    """Note that going back is tried now; return when it was tried for this order since the last boot."""
    now = time.time()
    tried = [*attempts(base), now]
    with contextlib.suppress(OSError):
        files.write(_spare(ATTEMPTS), text({"at": tried}), PRIVATE)
    return tried
