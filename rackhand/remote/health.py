"""How healthy this host's GPUs are: everything that is read for it, at once. Read-only."""

from __future__ import annotations

import json
import shutil
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from rackhand.remote import gpu, host, kernel_log, state

CUDA_S = 60
# What is kept of the log: errors of GPUs and NVSwitches, cards that were refused, and when the driver began. A card
# that is lost lets the driver say a thousand other things, and the one that counts would not be among the last.
KERNEL_WORDS = (
    "NVRM: Xid", "SXid", "RmInitAdapter failed", "is not supported by", "open kernel modules", "NVRM: loading NVIDIA",
)  # fmt: skip
KEPT_LINES = 500
UNITS = ("nvidia-persistenced", "nvidia-fabricmanager")
FABRIC_PACKAGES = "nvidia-fabricmanager*"
CONTROL_NODES = ("nvidiactl", "nvidia-uvm")


def look(root: str, loader: str, nvml_payload: str, cuda_payload: str, nvml_s: int, dcgm_s: int) -> dict[str, Any]:
    """Return versions, bus, NVML, CUDA, kernel log, services and device nodes; with `dcgm_s` DCGM's short test, too.

    `nvml_s` limits NVML, the wait for a fabric included; all limits are in seconds.
    """
    identity = host.identity()
    return {
        "now": time.time(),
        "host": {**identity, "uptime_s": float(Path("/proc/uptime").read_text().split()[0])},
        "pci": gpu.pci(),
        "driver": gpu.driver(),
        "nodes": nodes(Path("/dev")),  # before CUDA is asked, which may make some
        "nvml": gpu.nvml(loader, nvml_payload, nvml_s),
        "cuda": cuda(loader, cuda_payload),
        "kernel": _kernel(),
        "units": [_unit(name) for name in UNITS],
        "fabric_packages": gpu.packages([FABRIC_PACKAGES])["installed"],
        "engines": _engines(Path(root)),
        "dcgm": dcgm(dcgm_s) if dcgm_s else None,
    }


def cuda(loader: str, payload: str) -> dict[str, Any]:
    """Start CUDA in a process of its own: it may hang, or crash inside of the driver's library."""
    nothing = {"code": 0, "name": "", "devices": 0}
    try:
        done = subprocess.run(
            [sys.executable, "-c", loader], input=payload.encode(), capture_output=True, timeout=CUDA_S, check=False
        )
        answer: dict[str, Any] = json.loads(done.stdout)["result"]
    except subprocess.TimeoutExpired:
        return {**nothing, "state": "hangs", "detail": f"cuInit did not return within {CUDA_S} s"}
    except (ValueError, KeyError):
        return {**nothing, "state": "crashed", "detail": f"the process that called cuInit ended with {done.returncode}"}
    return answer


def nodes(root: Path) -> list[dict[str, Any]]:
    """List the driver's device nodes below `root`; servers have no rights of their own to open them."""
    names = [*CONTROL_NODES, *(path.name for path in root.glob("nvidia[0-9]*"))]
    found = []
    for name in names:
        try:
            mode = (root / name).stat().st_mode
        except OSError:
            continue
        found.append({"name": name, "open": mode & 0o006 == 0o006, "device": stat.S_ISCHR(mode)})
    return found


def _kernel() -> list[str] | None:
    said = kernel_log.lines(KERNEL_WORDS, kernel_log.TIMED)
    return None if said is None else said[-KEPT_LINES:]


def _unit(name: str) -> dict[str, Any]:
    unit = state.unit(f"{name}.service")
    return {"name": name, "there": unit["load"] == "loaded", "active": unit["active"], "ended": unit["ended"]}


def _engines(base: Path) -> list[dict[str, Any]]:
    """Return the GPUs of each instance of the current release, from which one sees whether it spans several."""
    listed = state.read_json(base / "current/manifest.json").get("instances") or []
    return [{"name": str(each.get("name", "")), "gpus": list(each.get("gpus") or [])} for each in listed]


def dcgm(limit_s: int) -> dict[str, Any] | None:
    """Run DCGM's test of level 1, which looks and loads nothing; None where DCGM is not installed."""
    program = shutil.which("dcgmi")
    if program is None:
        return None
    try:
        done = subprocess.run(
            [program, "diag", "-r", "1", "--json"], capture_output=True, text=True, errors="replace",
            stdin=subprocess.DEVNULL, timeout=limit_s, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return {"status": None, "detail": f"dcgmi did not end within {limit_s} s", "answer": None}
    begin = done.stdout.find("{")
    try:
        answer = json.loads(done.stdout[begin:]) if begin >= 0 else None
    except ValueError:
        answer = None
    said = (done.stderr or done.stdout).strip().splitlines()
    return {"status": done.returncode, "detail": said[-1] if said else "", "answer": answer}
