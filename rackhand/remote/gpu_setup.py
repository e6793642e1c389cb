"""What runs beside the driver: persistence daemon, fabric services, modules at boot. Read it, and put it right."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from rackhand.remote import command, files, packager, paused, state
from rackhand.remote.problem import Problem

PERSISTENCED = "nvidia-persistenced"
PROGRAM = "/usr/bin/nvidia-persistenced"
DROP_IN = Path("/etc/systemd/system/nvidia-persistenced.service.d/rackhand.conf")
MODULES = Path("/etc/modules-load.d/rackhand-nvidia.conf")
LOADED = Path("/sys/module")
FIELDS = ("Id", "LoadState", "ActiveState", "UnitFileState", "FragmentPath", "ExecStart")
ON, OFF = "--persistence-mode", "--no-persistence-mode"
# What is set at each boot, below our root.
KEPT = "gpus.json"
WHY = "# Written by rackhand; edits are lost.\n"
# Longest wait for a service to start, in seconds: a fabric manager trains every link before it says that it runs.
START_S = 300
JOURNAL_S = 30
# Cards are cut one after the other, and some are reset for it.
MODES_S = 300


def seen(root: str, services: list[str]) -> dict[str, Any]:
    """Say whether units are there, enabled and active, what boots load and set, whether persistence is asked for."""
    units = _units([*services, PERSISTENCED])
    return {
        "services": {name: _facts(units.get(name, {})) for name in services},
        "persistence": _asks_for_persistence(units.get(PERSISTENCED, {})),
        "modules": _listed(MODULES),
        "kept": state.read_json(Path(root) / KEPT),
    }


@command.alone("packages")
def configure(
    packages: list[str], services: list[str], unwanted: list[str], modules: list[str], again: list[str], timeout_s: int
) -> None:
    """Install `packages`, load `modules`, and have `services` run and not `unwanted`, now and at boot.

    Those of `again` begin anew. Raises Problem `gpu-service` for a service that is not installed or does not start,
    with what it said.
    """
    if packages:
        packager.install(packages, "packages", timeout_s)
    lines = "".join(f"{name}\n" for name in modules)
    if modules:
        files.write(MODULES, WHY + lines)
    missing = [name for name in modules if not (LOADED / name).is_dir()]
    if missing:
        subprocess.run(["modprobe", "-a", *missing], capture_output=True, timeout=START_S, check=False)
    renewed = PERSISTENCED in services and _persist()
    again = [*again, PERSISTENCED] if renewed else again
    for name in unwanted:
        _systemctl("disable", "--now", name)
    for name in services:
        _have_run(name, name in again)


def set_modes(root: str, kept: dict[str, Any], payload: str, loader: str, resting: list[str]) -> list[str]:
    """Write down what every boot sets, and set GPUs now; services of `resting` that run are stopped meanwhile.

    Returns those that do not start again. Raises Problem `gpu-modes` with a line for each GPU that could not be set.
    """
    files.write(Path(root) / KEPT, json.dumps(kept, indent=1, sort_keys=True) + "\n")
    deadline = time.monotonic() + paused.STOP_S + MODES_S + paused.START_S
    stopped = paused.stop(resting, deadline) if resting else []
    try:
        _set(payload, loader)
    finally:
        down = paused.start(stopped, deadline) if resting else []
    return down


def _set(payload: str, loader: str) -> None:
    """Set GPUs in a process of its own, because a wrong call can crash it."""
    command = [sys.executable, "-c", loader]
    done = subprocess.run(command, input=payload.encode(), capture_output=True, timeout=MODES_S, check=False)
    try:
        failed = list(json.loads(done.stdout)["result"])
    except (ValueError, KeyError):
        failed = [f"NVML ended with {done.returncode}", *done.stderr.decode(errors="replace").splitlines()[-3:]]
    if failed:
        step = "see the lines below; processes that hold a GPU are shown by nvidia-smi"
        raise Problem("gpu-modes", f"a GPU could not be set: {failed[0]}", step, failed)


def drop_in(unit: str) -> str:
    """Return what has the daemon of a unit's text hold the GPUs: its own words, with persistence mode on.

    Distributions start it with persistence mode off, some for as long only as another unit needs it, and without
    anything to enable.
    """
    starts = [line.partition("=")[2] for line in unit.splitlines() if line.startswith("ExecStart=")]
    words = shlex.split(starts[-1]) if starts else [PROGRAM, "--verbose"]
    command = " ".join([*(word for word in words if word not in (ON, OFF)), ON])
    sections = ("[Unit]\nStopWhenUnneeded=no\n", f"[Service]\nExecStart=\nExecStart={command}\n")
    return WHY + "\n".join((*sections, "[Install]\nWantedBy=multi-user.target\n"))


def _persist() -> bool:
    """Write the drop-in; return whether the daemon has to begin anew for it."""
    facts = _units([PERSISTENCED]).get(PERSISTENCED, {})
    if _asks_for_persistence(facts):
        return False
    files.write(DROP_IN, drop_in(_text(facts.get("FragmentPath", ""))))
    _systemctl("daemon-reload")
    return True


def _asks_for_persistence(facts: dict[str, str]) -> bool:
    """Tell whether the drop-in is the right one for the unit as it is now, and nothing after it says otherwise."""
    fragment = facts.get("FragmentPath", "")
    right = bool(fragment) and DROP_IN.is_file() and DROP_IN.read_text() == drop_in(_text(fragment))
    return right and ON in facts.get("ExecStart", "").split()


def _have_run(name: str, again: bool) -> None:
    if _units([name]).get(name, {}).get("LoadState") != "loaded":
        step = "install the package that brings it, at the driver's version; with driver_manage rackhand does"
        raise Problem("gpu-service", f"{name} is not installed, and these GPUs need it", step)
    _systemctl("enable", name)
    try:
        _systemctl("restart" if again else "start", name)
    except Problem:
        step = f"see 'journalctl -u {name}' on the host; its version must be the loaded driver's"
        raise Problem("gpu-service", f"{name} does not start", step, _journal(name)) from None


def _units(names: list[str]) -> dict[str, dict[str, str]]:
    """Ask systemd once for all units; what does not exist answers too."""
    command = ["systemctl", "show", *(f"{name}.service" for name in dict.fromkeys(names))]
    text = _output([*command, "--property", ",".join(FIELDS)], state.ANSWER_S)
    found = [dict(line.split("=", 1) for line in block.splitlines() if "=" in line) for block in text.split("\n\n")]
    return {facts.get("Id", "").removesuffix(".service"): facts for facts in found}


def _facts(facts: dict[str, str]) -> dict[str, bool]:
    return {
        "there": facts.get("LoadState") == "loaded",
        "enabled": facts.get("UnitFileState") == "enabled",
        "active": facts.get("ActiveState") == "active",
    }


def _listed(path: Path) -> list[str]:
    return [line for line in _text(str(path)).splitlines() if line and not line.startswith("#")]


def _text(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def _journal(name: str) -> list[str]:
    lines = _output(["journalctl", "-u", name, "-b", "-n", "20", "-o", "cat", "--no-pager"], JOURNAL_S)
    return [line for line in lines.splitlines() if line.strip()][-6:]


def _output(command: list[str], within_s: int) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=within_s, check=False).stdout
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return ""


def _systemctl(*words: str) -> None:
    try:
        done = subprocess.run(["systemctl", *words], capture_output=True, text=True, timeout=START_S, check=False)
        status, said = done.returncode, done.stderr.splitlines()
    except subprocess.TimeoutExpired:
        status, said = 1, [f"no answer within {START_S} s"]
    if status:
        step = f"run 'systemctl status {words[-1]}' on the host"
        raise Problem("systemctl", f"systemctl {' '.join(words)} failed", step, said[-3:])
