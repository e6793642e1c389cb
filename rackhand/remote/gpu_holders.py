"""Who has a GPU's device node open or mapped: no module of the driver goes as long as somebody does."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from rackhand.remote import host
from rackhand.remote.problem import Problem

PROC = Path("/proc")
NODES = "/dev/nvidia"
# Whoever only looks (nvidia-smi of some monitoring) is gone after that, in seconds.
GLANCE_S = 15
POLL_S = 0.5
SHOWN = 8
# A container's scope as Docker and Podman name it for systemd.
CONTAINER = re.compile(r"(docker|libpod)-([0-9a-f]{12})")
PROGRAMS = {"docker": "docker", "libpod": "podman"}


def refuse(spared: list[str]) -> None:
    """Raise Problem `gpu-held` where others than the `spared` units (shell patterns) hold a GPU, and go on doing so."""
    deadline = time.monotonic() + GLANCE_S
    while found := _others(spared):
        if time.monotonic() >= deadline:
            raise _held(found)
        time.sleep(POLL_S)


def holders() -> list[dict[str, Any]]:
    """Return every process on a GPU's device node: pid, command, systemd unit (empty without one)."""
    pids = sorted(int(path.name) for path in PROC.glob("[0-9]*"))
    return [host.process(pid) for pid in pids if _holds(PROC / str(pid))]


def _others(spared: Sequence[str]) -> list[dict[str, Any]]:
    return [each for each in holders() if not any(fnmatchcase(each["unit"], pattern) for pattern in spared)]


def _holds(process: Path) -> bool:
    """What was mapped stays in use after its file is closed."""
    return any(target.startswith(NODES) for target in _open(process)) or f" {NODES}" in _maps(process)


def _open(process: Path) -> Iterator[str]:
    try:
        links = list((process / "fd").iterdir())
    except OSError:
        return
    for link in links:
        try:
            yield str(link.readlink())
        except OSError:
            continue


def _maps(process: Path) -> str:
    try:
        return (process / "maps").read_text(errors="replace")
    except OSError:
        return ""


def _held(found: Sequence[dict[str, Any]]) -> Problem:
    lines = [f"pid {each['pid']}: {each['command'] or '?'}, {each['unit'] or 'no unit'}" for each in found]
    first = found[0]
    unit = f", {first['unit']}" if first["unit"] else ""
    more = f" and {len(found) - 1} more" if len(found) > 1 else ""
    return Problem(
        "gpu-held",
        f"{first['command'] or 'a process'} (pid {first['pid']}{unit}){more} holds a GPU and is none of rackhand's, "
        "so the driver is left as it is",
        f"end it ({_cure(first)} on the host), then run again",
        lines[:SHOWN],
    )


def _cure(holder: dict[str, Any]) -> str:
    container = CONTAINER.match(holder["unit"])
    if container:
        return f"{PROGRAMS[container.group(1)]} stop {container.group(2)}"
    return f"systemctl stop {holder['unit']}" if holder["unit"].endswith(".service") else f"kill {holder['pid']}"
