"""What rackhand left on this host and what of it runs. Read-only."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from rackhand.remote import files

UNIT_FIELDS = (
    "Id",
    "LoadState",
    "ActiveState",
    "SubState",
    "UnitFileState",
    "MainPID",
    "NRestarts",
    "InvocationID",
    "Result",
    "NeedDaemonReload",
)
UNIT = Path("/etc/systemd/system/vllm@.service")
CONFIG_VARIABLE = "RACKHAND_CONFIG"


def state(root: str, venv: str, model: str, uv: str, user: str) -> dict[str, Any]:
    """Say which releases, environments and weights are here, and which instances run with which configuration."""
    base = Path(root)
    return {
        "current": _target(base / "current"),
        "previous": _target(base / "previous"),
        "releases": sorted(path.name for path in base.glob("releases/*") if (path / "manifest.json").exists()),
        "venv": _json(base / "venvs" / venv / "rackhand.json"),
        "model": _json(base / "models" / model / "rackhand.json"),
        "model_intact": _intact(base / "models" / model),
        "uv": (base / "bin" / uv).exists(),
        "user": _user_exists(user),
        "unit_sha256": files.sha256(UNIT) if UNIT.is_file() else "",
        "instances": instances(),
    }


def instances() -> list[dict[str, Any]]:
    """Describe every vllm@ unit that is loaded or enabled, with the configuration digest it was started with."""
    listed = _run(["systemctl", "list-units", "--all", "--plain", "--no-legend", "vllm@*.service"])
    enabled = [path.name for path in Path("/etc/systemd/system/multi-user.target.wants").glob("vllm@*.service")]
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
        "enabled": values.get("UnitFileState", "") == "enabled",
        "restarts": int(values.get("NRestarts") or 0),
        "invocation": values.get("InvocationID", ""),
        "result": values.get("Result", ""),
        "pid": pid,
        "running_config": _running_config(pid),
    }


def _running_config(pid: int) -> str:
    """Read one variable of the running process: what it was started with, not what the files say now."""
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return ""
    prefix = f"{CONFIG_VARIABLE}=".encode()
    return next((entry[len(prefix) :].decode() for entry in environment if entry.startswith(prefix)), "")


def _intact(model: Path) -> bool:
    """Compare the sizes on disk with the record; contents were hashed when the files arrived."""
    record = _json(model / "rackhand.json")
    files = record.get("files", [])
    return bool(files) and all(_size(model / item["path"]) == item["size"] for item in files)


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else -1


def _target(link: Path) -> str:
    return link.readlink().name if link.is_symlink() else ""


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _user_exists(user: str) -> bool:
    return any(line.startswith(f"{user}:") for line in Path("/etc/passwd").read_text().splitlines())


def _run(command: list[str]) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout
    except FileNotFoundError:
        return ""
