"""What rackhand left on this host and what of it runs. Read-only."""

from __future__ import annotations

import hashlib
import json
import subprocess
import time
from pathlib import Path
from typing import Any

from rackhand.remote import files, measured

UNIT_FIELDS = (
    "Id",
    "LoadState",
    "ActiveState",
    "SubState",
    "MainPID",
    "NRestarts",
    "InvocationID",
    "Result",
    "NeedDaemonReload",
    "ExecMainCode",
    "ExecMainStatus",
    "Job",
)
UNIT = Path("/etc/systemd/system/vllm@.service")
# What starts at boot.
WANTS = UNIT.parent / "multi-user.target.wants"
DROP_INS = "vllm@*.service.d/rackhand.conf"
CONFIG_VARIABLE = "RACKHAND_CONFIG"
# One empty file per instance whose process may have been started from files that were changed by hand.
OWED = "owed"
# What the files of a release were when it was placed, and what its gate said last.
PLACED = "placed.json"
VERDICT = "verdict.json"
WRITTEN_LATER = (measured.RECORD, PLACED, VERDICT)
EXITED = "1"
# Longest wait for systemctl, in seconds.
ANSWER_S = 60
LEASE = "lock/lease.json"
ORDER = "turn/order.json"
ORDERED = ("run", "kind", "purpose", "to")
PROGRAM = "rackhand-switch.service"
PROGRAM_UNITS = "rackhand-*"
PROGRAM_LINK = "program/current.pyz"


def state(root: str, venv: str, model: str, uv: str, user: str) -> dict[str, Any]:
    """Say which releases, environments and weights are here, and which instances run with which configuration."""
    base = Path(root)
    return {
        "current": _target(base / "current"),
        "previous": _target(base / "previous"),
        "releases": {path.name: fingerprint(path) for path in sorted(base.glob("releases/[!.]*"))},
        "venv": read_json(base / "venvs" / venv / "rackhand.json"),
        "model": read_json(base / "models" / model / "rackhand.json"),
        "model_intact": intact(base / "models" / model),
        "uv": (base / "bin" / uv).exists(),
        "user": _user_exists(user),
        "unit_sha256": files.sha256(UNIT) if UNIT.is_file() else "",
        "drop_ins": {instance_of(str(path)): files.sha256(path) for path in UNIT.parent.glob(DROP_INS)},
        "measured": measured.kept(base),
        "instances": [{**item, "owed": (base / OWED / item["name"]).exists()} for item in instances()],
        "lease": lease(base),
        "order": open_order(base),
        "program": program(base),
        "now": time.time(),
    }


def lease(base: Path) -> dict[str, Any] | None:
    """Return who may change this host, whether or not the time is over; None where nobody asked for it."""
    held = read_json(base / LEASE)
    return held if held.get("run") and isinstance(held.get("expires"), (int, float)) else None


def open_order(base: Path) -> dict[str, Any] | None:
    """Return the order that this host has not ended yet, `alive` while its program is at it; None without one.

    Past its deadline no program is believed to come to an end.
    """
    order = read_json(base / ORDER)
    if not order.get("run"):
        return None
    late = time.time() > (order.get("deadline") or float("inf"))
    active = _run(["systemctl", "is-active", PROGRAM]).strip() in ("active", "activating")
    return {**{name: order.get(name) or "" for name in ORDERED}, "alive": active and not late}


def program(base: Path) -> dict[str, Any]:
    """Say which program of ours this host runs, by its digest, and what the unit files are that belong to it."""
    units = {path.name: files.sha256(path) for path in UNIT.parent.glob(PROGRAM_UNITS) if path.is_file()}
    digest = _target(base / PROGRAM_LINK).removesuffix(".pyz")
    return {"digest": digest if (base / PROGRAM_LINK).is_file() else "", "units": units}


def instance_of(drop_in: str) -> str:
    """Name the instance that a drop-in belongs to: …/vllm@NAME.service.d/rackhand.conf."""
    return Path(drop_in).parent.name[len("vllm@") : -len(".service.d")]


def fingerprint(release: Path) -> str:
    """Digest everything in a release that a hand could change: links, modes and contents (rackhand.render, Release)."""
    lines = "\n".join(sorted(f"{name} {digest}" for name, digest in digests(release).items()))
    return hashlib.sha256(lines.encode()).hexdigest()[:12]


def digests(release: Path) -> dict[str, str]:
    """Return what each file and link of a release is; what is written beside them later is no part of it."""
    found = {}
    for path in release.rglob("*"):
        name = str(path.relative_to(release))
        if name in WRITTEN_LATER:
            continue
        if path.is_symlink():
            found[name] = f"-> {path.readlink()}"
        elif path.is_file():
            found[name] = f"{path.stat().st_mode & 0o777:o} {files.sha256(path)}"
    return found


def edited(release: Path) -> list[str] | None:
    """Name the files that are not as they were placed; None where nobody wrote down how that was."""
    placed = read_json(release / PLACED)
    if not placed:
        return None
    now = digests(release)
    return sorted(name for name in {*placed, *now} if placed.get(name) != now.get(name))


def instances() -> list[dict[str, Any]]:
    """Describe every vllm@ unit that is loaded or enabled, with the configuration digest it was started with."""
    listed = _run(["systemctl", "list-units", "--all", "--plain", "--no-legend", "vllm@*.service"])
    enabled = [path.name for path in WANTS.glob("vllm@*.service")]
    names = sorted({line.split()[0] for line in listed.splitlines() if line.strip()} | set(enabled))
    return [unit(name) for name in names]


def unit(name: str) -> dict[str, Any]:
    """Describe one systemd unit."""
    shown = _run(["systemctl", "show", name, "--property", ",".join(UNIT_FIELDS)])
    values = dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)
    pid = int(values.get("MainPID") or 0)
    return {
        "name": name.removeprefix("vllm@").removesuffix(".service"),
        "load": values.get("LoadState", ""),
        "active": values.get("ActiveState", ""),
        "sub": values.get("SubState", ""),
        # Not UnitFileState: systemd remembers that of a loaded unit beyond a `disable --no-reload`.
        "enabled": (WANTS / name).is_symlink(),
        "restarts": int(values.get("NRestarts") or 0),
        "job": values.get("Job", "0") not in ("", "0"),
        "invocation": values.get("InvocationID", ""),
        "result": values.get("Result", ""),
        "ended": _ended(values.get("ExecMainCode", ""), values.get("ExecMainStatus", "")),
        "pid": pid,
        "running_config": _running_config(pid),
    }


def _ended(code: str, status: str) -> str:
    """Say how the last process ended; empty while it runs."""
    if code in ("", "0"):
        return ""
    return f"exit status {status}" if code == EXITED else f"signal {status}"


def _running_config(pid: int) -> str:
    return variable(pid, CONFIG_VARIABLE)


def variable(pid: int, name: str) -> str:
    """Read one variable of a running process: what it was started with, not what the files say now; empty without."""
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return ""
    prefix = f"{name}=".encode()
    return next((entry[len(prefix) :].decode() for entry in environment if entry.startswith(prefix)), "")


def intact(model: Path) -> bool:
    """Compare the sizes on disk with the record; contents were hashed when the files arrived."""
    record = read_json(model / "rackhand.json")
    files = record.get("files", [])
    return bool(files) and all(_size(model / item["path"]) == item["size"] for item in files)


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else -1


def _target(link: Path) -> str:
    return link.readlink().name if link.is_symlink() else ""


def read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _user_exists(user: str) -> bool:
    return any(line.startswith(f"{user}:") for line in Path("/etc/passwd").read_text().splitlines())


def _run(command: list[str]) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=ANSWER_S, check=False).stdout
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return ""
