"""Builders of what a host says about itself and of what is wished of it; every test changes only what it is about."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from rackhand.errors import RackhandError
from rackhand.models.config import spec_from_config
from rackhand.models.spec import ModelSpec
from rackhand.settings import Settings
from rackhand.survey import ModelFile, Survey, parse
from rackhand.weights import Weights
from rackhand.wishes import UvBinary, Wishes

DRIVER = "580.126.20"
VENV = "0123456789ab"
GIB = 1 << 30
# PCI device id, class, memory in MiB as NVML shows it, compute capability.
CARDS = {
    "h100": ("0x2330", "0x030200", 81_559, (9, 0)),
    "rtx4090": ("0x2684", "0x030000", 24_564, (8, 9)),
    "l4": ("0x27b8", "0x030200", 23_034, (8, 9)),
    "b300": ("0x3182", "0x030200", 275_040, (10, 3)),
    "t4": ("0x1eb8", "0x030200", 15_360, (7, 5)),
    "b200": ("0x2901", "0x030200", 182_642, (10, 0)),
    "gb200": ("0x2941", "0x030200", 189_471, (10, 0)),
    "future": ("0x3021", "0x030200", 294_912, (10, 0)),
    "p100": ("0x15f8", "0x030200", 16_384, (6, 0)),
}
# Llama 3 8B: 32 layers, 8 key-value heads of 128.
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "torch_dtype": "bfloat16",
    "vocab_size": 128_256,
    "intermediate_size": 14_336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "hidden_size": 4096,
    "max_position_embeddings": 8192,
}
HOST = {
    "hostname": "gpu-1",
    "distribution": "debian",
    "version": "12",
    "pretty": "Debian GNU/Linux 12 (bookworm)",
    "kernel": "6.1.0",
    "architecture": "x86_64",
    "python": "3.11.2",
    "glibc": "2.36",
    "boot_id": "b0",
    "systemd": True,
    "secure_boot": False,
}


def address(slot: int) -> str:
    """Return the PCI address of the GPU in a slot."""
    return f"0000:{0x10 + slot:02x}:00.0"


def uuid(slot: int) -> str:
    """Return the UUID of the GPU in a slot."""
    return f"GPU-{slot:08d}-0000-0000-0000-000000000000"


def answer(cards: tuple[str, ...] = ("h100",), changes: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the JSON that a prepared host gives: driver loaded, nothing deployed. `changes` maps dotted paths."""
    found = {
        "host": dict(HOST),
        "resources": {"disk_free_mib": 500_000, "disk_total_mib": 900_000, "memory_mib": 256_000, "shm_mib": 128_000},
        "pci": [_pci(slot, card) for slot, card in enumerate(cards)],
        "driver": {"loaded": DRIVER, "flavour": "open", "library": DRIVER, "nouveau": False, "runfile": False},
        "packages": {"installed": {}, "held": []},
        "ground": {"unloadable": True},
        "nvml": {"state": "ok", "driver": DRIVER, "cuda": "13.0", "gpus": [_nvml(*pair) for pair in enumerate(cards)]},
        "setup": setup(),
        "listeners": [],
        "apt_lock": None,
        "state": state(),
    }
    for path, value in (changes or {}).items():
        *parents, last = path.split(".")
        place: Any = found
        for name in parents:
            place = place[int(name) if isinstance(place, list) else name]
        place[int(last) if isinstance(place, list) else last] = value
    return found


def survey(*cards: str, **changes: Any) -> Survey:
    """Return the parsed answer; `host__systemd=False` changes host.systemd."""
    return parse(answer(cards, {path.replace("__", "."): value for path, value in changes.items()}), "gpu-1")


def bare(*cards: str, **changes: Any) -> Survey:
    """Return a host without a driver: the GPUs are on the PCI bus and nowhere else."""
    driver = {"loaded": None, "flavour": "", "library": None, "nouveau": False, "runfile": False}
    nvml = {"state": "no-library", "detail": "NVML Shared Library Not Found", "gpus": []}
    return survey(*cards, **{"driver": driver, "nvml": nvml, **changes})


def setup(**changes: Any) -> dict[str, Any]:
    """Return what runs beside the driver of a prepared host without NVSwitches: all that should."""
    runs = {"there": True, "enabled": True, "active": True}
    services = {"nvidia-persistenced": runs, "rackhand-gpus": runs, "rackhand-hardware": runs}
    return {"services": services, "persistence": True, "modules": ["nvidia", "nvidia_uvm"], "kept": {}, **changes}


def state(**changes: Any) -> dict[str, Any]:
    """Return what rackhand left on a host: nothing."""
    nothing = {
        "current": "",
        "previous": "",
        "releases": {},
        "venv": {},
        "model": {},
        "model_intact": False,
        "uv": False,
        "user": False,
        "unit_sha256": "",
        "instances": [],
        "measured": [],
    }
    return {**nothing, **changes}


def settings(**wished: Any) -> Settings:
    """Return checked settings of a model on this machine."""
    engine = {"engine_version": "0.33.0", "engine_requirements": "requirements/vllm-0.33.0.txt"}
    return Settings(**{"model_name": "llama", "model_path": "models/llama", **engine, **wished})


def weights(gib: float = 15) -> Weights:
    """Return weights of a size; nothing is on any disk."""
    size = int(gib * GIB)
    return Weights(
        id="llama@abcdefabcdef",
        name="llama",
        revision="abcdefabcdef",
        source="path:llama",
        directory=Path("models/llama"),
        files=(ModelFile(path="model.safetensors", size=size, sha256="0" * 64),),
    )


def spec(gib: float, config: Mapping[str, Any]) -> ModelSpec | None:
    """Return what a config says, with weights of another size; None where it says nothing."""
    try:
        found = spec_from_config(config, "llama")
    except RackhandError:
        return None
    factor = gib * GIB / found.weight_bytes
    parts = tuple(
        replace(part, bytes=round(part.bytes * factor), elements=round(part.elements * factor)) for part in found.parts
    )
    return replace(found, parts=parts)


def wishes(gib: float = 15, config: Mapping[str, Any] | None = None, key: str | None = None, **wished: Any) -> Wishes:
    """Return what is wished of one host."""
    return Wishes(
        settings=settings(**wished),
        weights=weights(gib),
        spec=spec(gib, CONFIG if config is None else config),
        spec_unknown="config.json has no num_hidden_layers",
        requirements="vllm==0.33.0 --hash=sha256:00\n",
        venv=VENV,
        uv=UvBinary(path=Path("/bin/true"), name="uv-000000000000", sha256="0" * 64),
        api_key=None if key is None else SecretStr(key),
        hub_token=None,
    )


def _pci(slot: int, card: str) -> dict[str, Any]:
    device, kind, _, _ = CARDS[card]
    return {
        "address": address(slot),
        "vendor": "0x10de",
        "device": device,
        "device_class": kind,
        "subsystem_vendor": "0x10de",
        "subsystem_device": "0x0000",
        "driver": "nvidia",
        "numa_node": 0,
    }


def _nvml(slot: int, card: str) -> dict[str, Any]:
    _, _, memory_mib, capability = CARDS[card]
    return {
        "index": slot,
        "uuid": uuid(slot),
        "name": card,
        "address": address(slot),
        "memory_mib": memory_mib,
        "reserved_mib": 500,
        "free_mib": memory_mib - 500,
        "capability": capability,
    }
