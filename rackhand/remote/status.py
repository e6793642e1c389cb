"""How this host stands: what was deployed, what runs, and what is as it was left. Read-only."""

from __future__ import annotations

import os
import re
import subprocess
import time
from pathlib import Path
from typing import Any

from rackhand.remote import driver_files, files, gate, gpu, host, measured, references, shelf, startup, state, units

SYSTEMCTL_S = 30
HAPROXY = "haproxy.service"
UNIT_FIELDS = ("DropInPaths", "NeedDaemonReload", "ExecMainStartTimestampMonotonic")
STATES = Path("/run/rackhand")
REBOOT = Path("/run/reboot-required")
MODULES = Path("/lib/modules")
HEALTH_S = 5
OURS = "rackhand.conf"
LOAD = re.compile(r"^vllm:num_requests_(running|waiting)(?:\{[^}]*\})? +([0-9.eE+]+)$", re.MULTILINE)


def status(root: str, packages: list[str], loader: str, nvml_payload: str, probe_s: int | None) -> dict[str, Any]:
    """Return everything at once; with `probe_s` each instance that answers is asked for five tokens."""
    base = Path(root)
    release = _release(base)
    return {
        "now": time.time(),
        "host": {**host.identity(), "uptime_s": _uptime_s()},
        "resources": host.resources(root),
        "driver": gpu.driver(),
        "packages": {**gpu.packages(packages), "pinned": driver_files.pinned()},
        "nvml": gpu.nvml(loader, nvml_payload),
        "reboot": reboot(),
        "release": release,
        "units": _unit_files(base / "current") if release else [],
        "instances": _instances(base, release, probe_s),
        "haproxy": _haproxy(),
        "order": _order(base),
        "lease": state.lease(base),
        "last": state.read_json(base / "turn/result.json"),
    }


def _release(base: Path) -> dict[str, Any] | None:
    """Describe the current release and since when it is that; None where there is none that makes sense."""
    link = base / "current"
    try:
        found = shelf.record(base / "releases" / link.readlink().name)
        before = base / "previous"
        previous = before.readlink().name if before.is_symlink() else ""
        return {**found, "since": link.lstat().st_mtime, "previous": previous}
    except (OSError, KeyError, TypeError, ValueError):
        return None


def _order(base: Path) -> dict[str, Any] | None:
    """Return the open order, since when it is open and how far it has come; None without one."""
    order, told = state.open_order(base), state.read_json(base / references.PROGRESS)
    created = state.read_json(base / state.ORDER).get("created") or 0.0
    return {**order, "created": created, "phase": str(told.get("phase") or "")} if order else None


def _haproxy() -> dict[str, Any] | None:
    """Describe the router that may run here; None where there is none."""
    unit = state.unit(HAPROXY)
    return {"active": unit["active"], "enabled": unit["enabled"]} if unit["load"] == "loaded" else None


def _unit_files(current: Path) -> list[str]:
    """Name the unit files of ours that are not those of the release."""
    places = [state.UNIT.name, *(str(path.relative_to(current)) for path in current.glob(state.DROP_INS))]
    there = {str(path.relative_to(state.UNIT.parent)) for path in state.UNIT.parent.glob(state.DROP_INS)}
    wrong = [name for name in places if _sha256(state.UNIT.parent / name) != _sha256(current / name)]
    return sorted({*wrong, *(there - set(places))})


def _sha256(path: Path) -> str:
    return files.sha256(path) if path.is_file() else ""


def _instances(base: Path, release: dict[str, Any] | None, probe_s: int | None) -> list[dict[str, Any]]:
    planned = {item["name"]: item for item in release["instances"]} if release else {}
    facts = {item["name"]: item for item in state.instances()}
    names = [*planned, *sorted(facts.keys() - planned.keys())]
    asked = {name: _asked(item, release or {}) for name, item in planned.items()}
    seen = [_instance(base, name, facts.get(name) or units.describe(name), asked.get(name)) for name in names]
    ready = [asked[item["name"]] for item in seen if item["healthy"] and item["name"] in asked]
    passed = {item["name"]: item for item in gate.check(ready, probe_s)} if ready and probe_s is not None else {}
    told = _tokens(base, planned)
    return [{**item, "gate": passed.get(item["name"]), **told.get(item["name"], {})} for item in seen]


def _asked(item: dict[str, Any], release: dict[str, Any]) -> dict[str, Any]:
    """Say how an instance is asked; its key is known to its own process alone."""
    own = {"host": release["host"], "model": release["served_name"], "version": release["engine_version"]}
    key = state.variable(units.describe(item["name"])["pid"], "VLLM_API_KEY")
    return {**item, **own, "key": key}


def _instance(base: Path, name: str, unit: dict[str, Any], asked: dict[str, Any] | None) -> dict[str, Any]:
    shown = _shown(name)
    healthy = bool(asked) and unit["active"] == "active" and gate.get(asked or {}, "/health", HEALTH_S)[0] == 200
    page = gate.get(asked, "/metrics", HEALTH_S)[1] if asked and healthy else ""
    started_s = int(shown.get("ExecMainStartTimestampMonotonic") or 0) / 1e6
    paths = [path for path in shown.get("DropInPaths", "").split() if Path(path).name != OURS]
    return {
        "name": name,
        "unit": unit,
        "up_s": round(time.clock_gettime(time.CLOCK_MONOTONIC) - started_s, 1) if unit["pid"] else None,
        "stale": shown.get("NeedDaemonReload") == "yes",
        "foreign": [path for path in paths if not path.startswith(("/usr/lib/", "/lib/"))],
        "owed": (base / state.OWED / name).exists(),
        "state": _state(name),
        "healthy": healthy,
        "load": {kind: float(number) for kind, number in LOAD.findall(page)},
        "kv_tokens": startup.tell([], page).get("kv_tokens"),
        "journal": _journal(unit, healthy),
    }


def _journal(unit: dict[str, Any], healthy: bool) -> list[str]:
    """Return what was said before this start where there were several, else what an instance says that is not up."""
    if unit["restarts"]:
        return units.journal(unit["name"], without=unit["invocation"] if healthy else "")
    return [] if healthy else units.journal(unit["name"])


def _tokens(base: Path, planned: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the tokens of KV cache that engines reported when they started with what is deployed."""
    found = {}
    for item in measured.kept(base):
        name, tokens = item.get("name"), (item.get("reported") or {}).get("kv_tokens")
        if item["running"] and tokens and name in planned and item.get("config") == planned[name]["config"]:
            found[name] = {"kv_tokens": tokens}
    return found


def _shown(name: str) -> dict[str, str]:
    command = ["systemctl", "show", f"vllm@{name}.service", "--property", ",".join(UNIT_FIELDS)]
    try:
        shown = subprocess.run(command, capture_output=True, text=True, check=False, timeout=SYSTEMCTL_S).stdout
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return {}
    return dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)


def _state(name: str) -> str:
    """Return what routers are told: ready where nobody wrote anything down."""
    try:
        return (STATES / f"{name}.state").read_text().strip() or "ready"
    except OSError:
        return "ready"


def _uptime_s() -> float:
    return float(Path("/proc/uptime").read_text().split()[0])


def reboot() -> dict[str, Any]:
    """Say what a reboot would bring: what the distribution asks for, and a newer kernel than the one that runs.

    `module` tells whether that kernel has a module of NVIDIA's driver, `headers` whether one can be built for it; None
    without a newer kernel.
    """
    running = os.uname().release
    there = [path.name for path in MODULES.glob("*") if (path / "modules.dep").exists()]
    newest = max(there, key=_version, default=running)
    newer = newest if running in there and _version(newest) > _version(running) else ""
    lists = REBOOT.with_name("reboot-required.pkgs")
    wants = sorted(set(lists.read_text().split())) if lists.exists() else []
    module = any((MODULES / newer).rglob("nvidia.ko*")) if newer else None
    headers = (MODULES / newer / "build/Makefile").exists() if newer else None
    return {"required": REBOOT.exists(), "packages": wants, "kernel": newer, "module": module, "headers": headers}


def _version(name: str) -> list[tuple[int, str]]:
    """Order kernels as people do: 6.1.0-9 before 6.1.0-21."""
    return [(int(number or 0), text) for number, text in re.findall(r"(\d+)|(\D+)", name)]
