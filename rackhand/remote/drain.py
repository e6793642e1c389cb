"""Take instances out of service without losing a request: tell the routers, then wait for what still runs."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rackhand.remote import files, gate

RUN = Path("/run/rackhand")
TOLD = RUN / "told"
READY, DRAIN = "ready", "drain"
# A router that has not asked for this long is none.
ASKED_S = 10.0
POLL_S = 0.1
# Two looks this far apart must find nothing: a request may be between the router and the engine's counters.
APART_S = 0.5
METRICS_S = 5
COUNTERS = re.compile(r"^vllm:num_requests_(?:running|waiting)(?:\{[^}]*\})?\s+([0-9.eE+]+)$", re.MULTILINE)


def say(name: str, state: str) -> None:
    """Set what routers are told of an instance: ready or drain."""
    if not RUN.is_dir():
        RUN.mkdir(parents=True)
        RUN.chmod(0o755)
    files.write(RUN / f"{name}.state", state + "\n")


def said(name: str) -> str:
    """Return what routers are told of an instance; who was never named is ready."""
    try:
        return (RUN / f"{name}.state").read_text().strip()
    except OSError:
        return READY


def forget(name: str) -> None:
    """Drop the state of an instance that is no more."""
    (RUN / f"{name}.state").unlink(missing_ok=True)


def wait(instances: list[dict[str, Any]], timeout_s: float, pulse: Callable[[], None]) -> dict[str, float]:
    """Tell the routers and wait until the instances have nothing to do; return the requests left, by name.

    `pulse` is called at every look and may raise. An engine that is gone has nothing to do.
    """
    since = time.time()
    for instance in instances:
        say(instance["name"], DRAIN)
    deadline = time.monotonic() + timeout_s
    idle: dict[str, float] = {}
    left = {instance["name"]: 1.0 for instance in instances}
    while left and time.monotonic() < deadline:
        pulse()
        for instance in [each for each in instances if each["name"] in left]:
            _look(instance, since, idle, left)
        if left:
            time.sleep(POLL_S)
    return left


def _look(instance: dict[str, Any], since: float, idle: dict[str, float], left: dict[str, float]) -> None:
    """Take an instance off the list when it was idle twice after every router was told."""
    name, now = instance["name"], time.monotonic()
    busy = requests(instance)
    left[name] = busy
    if busy or not told(name, since):
        idle.pop(name, None)
    elif now - idle.setdefault(name, now) >= APART_S:
        del left[name]


def told(name: str, since: float) -> bool:
    """Tell whether every router that asks about an instance has heard since then that it drains."""
    try:
        notes = list((TOLD / name).iterdir())
    except OSError:
        return True
    return all(_heard(note, since) for note in notes)


def _heard(note: Path, since: float) -> bool:
    try:
        at, word = note.stat().st_mtime, note.read_text().strip()
    except OSError:
        return True
    return at < time.time() - ASKED_S or (at >= since and word == DRAIN)


def requests(instance: dict[str, Any]) -> float:
    """Count the requests that run or wait in an engine; 0 where nobody listens, 1 where it does not say."""
    status, page = gate.get(instance, "/metrics", METRICS_S)
    if status == 0:
        return 1.0 if "timed out" in page else 0.0
    counts = COUNTERS.findall(page) if status == 200 else []
    return sum(float(value) for value in counts) if counts else 1.0
