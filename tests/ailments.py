"""Observations of hosts whose GPUs are well, as the health probe writes them, and of hosts with one thing wrong."""

import copy
from collections.abc import Sequence
from typing import Any

from rackhand.health.judge import judge
from rackhand.health.policy import Policy, Promised
from rackhand.health.seen import parse
from rackhand.outcome import Finding

H100, L4, A100, NVSWITCH = "0x2330", "0x27b8", "0x20b5", "0x22a3"
NAMES = {H100: "NVIDIA H100 80GB HBM3", L4: "NVIDIA L4", A100: "NVIDIA A100 80GB PCIe"}
DRIVER = "580.126.20"
WELL: dict[str, Any] = {
    "state": "ok",
    "detail": "",
    "failed": {},
    "vbios": "96.00.74.00.01",
    "memory_mib": 81559,
    "used_mib": 0,
    "processes": 0,
    "busy_percent": 0,
    "remapped": {"correctable": 0, "uncorrectable": 0, "pending": False, "failed": False},
    "retired_pending": None,
    "recovery": 0,
    "ecc": [1, 1],
    "ecc_uncorrected": 0,
    "sram_threshold": False,
    "mig": [0, 0],
    "nvlinks": None,
    "fabric": {"state": 0, "status": 0, "clique": "0/0", "health": 0},
    "pcie": {"width": 16, "max_width": 16, "generation": 1, "max_generation": 5, "replays": 0, "replays_later": None},
    "clock_events": 1,
    "power_limit_w": 700,
    "power_default_w": 700,
    "temperature_c": 34,
    "persistence": True,
    "compute_mode": 0,
}


def address(number: int) -> str:
    return f"0000:{0x10 + number:02x}:00.0"


def host(count: int = 2, device: str = L4, *, switched: bool = False) -> dict[str, Any]:
    """Return what a healthy host with so many cards says; `switched` ones are joined by NVSwitches."""
    gpus = [_gpu(number, device, switched=switched) for number in range(count)]
    switches = [_function("0000:05:00.0", NVSWITCH, "0x068000")] if switched else []
    return {
        "now": 1_800_000_000.0,
        "host": {"hostname": "rack1", "kernel": "6.1.0", "uptime_s": 86_400.0},
        "pci": [*(_function(gpu["address"], device, "0x030200") for gpu in gpus), *switches],
        "driver": {"loaded": DRIVER, "flavour": "open", "library": DRIVER, "nouveau": False, "runfile": False},
        "nodes": [_node(name) for name in ("nvidiactl", "nvidia-uvm", *(f"nvidia{number}" for number in range(count)))],
        "nvml": {"state": "ok", "detail": "", "driver": DRIVER, "gpus": gpus},
        "cuda": {"state": "ok", "code": 0, "name": "", "devices": count, "detail": ""},
        "kernel": [],
        "units": [
            {"name": "nvidia-persistenced", "there": True, "active": "active", "ended": ""},
            {"name": "nvidia-fabricmanager", "there": switched, "active": "active" if switched else "", "ended": ""},
        ],
        "fabric_packages": {"nvidia-fabricmanager": f"{DRIVER}-1"} if switched else {},
        "engines": [{"name": "tiny", "gpus": [gpu["uuid"] for gpu in gpus]}],
        "dcgm": None,
    }


def well(facts: dict[str, Any]) -> dict[str, Any]:
    """Return what a healthy host says that says `facts` in a survey: a GPU that NVML lists answers, CUDA shows it."""
    nvml, driver = facts["nvml"], facts["driver"]
    names = ("address", "uuid", "name", "memory_mib")
    gpus = [
        {**copy.deepcopy(WELL), **{name: gpu[name] for name in names}, "minor": number}
        for number, gpu in enumerate(nvml["gpus"])
    ]
    current = next((each for each in facts["shelf"] if each["id"] == facts["state"]["current"]), {"instances": []})
    return {
        **host(len(gpus)),
        "engines": [{"name": each["name"], "gpus": each["gpus"]} for each in current["instances"]],
        "pci": facts["pci"],
        "driver": driver,
        "nvml": {"state": nvml["state"], "detail": nvml.get("detail", ""), "driver": driver["loaded"], "gpus": gpus},
    }


def _gpu(number: int, device: str, *, switched: bool) -> dict[str, Any]:
    joined = {"state": 3, "status": 0, "clique": "c0ffee/0", "health": 1}
    return {
        **copy.deepcopy(WELL),
        "address": address(number),
        "uuid": f"GPU-{number}",
        "minor": number,
        "name": NAMES[device],
        **({"nvlinks": [True] * 18, "fabric": joined} if switched else {}),
    }


def _function(place: str, device: str, device_class: str) -> dict[str, Any]:
    return {
        "address": place,
        "vendor": "0x10de",
        "device": device,
        "device_class": device_class,
        "subsystem_vendor": "0x10de",
        "subsystem_device": "0x0000",
        "driver": "nvidia",
        "numa_node": 0,
    }


def _node(name: str) -> dict[str, Any]:
    return {"name": name, "open": True, "device": True}


def found(
    answer: dict[str, Any], policy: Policy | None = None, engines: Sequence[Any] | None = None, **promised: Any
) -> tuple[Finding, ...]:
    """Judge what a host says."""
    return judge("rack1", parse(answer, "rack1"), policy or Policy(), Promised(**promised), engines)


def codes(answer: dict[str, Any], **promised: Any) -> list[str]:
    return [each.code for each in found(answer, **promised)]


def lines(*said: str) -> list[str]:
    """Write lines as the journal does."""
    return [f"2026-11-29T06:14:{second:02d}+0000 rack1 kernel: {text}" for second, text in enumerate(said)]
