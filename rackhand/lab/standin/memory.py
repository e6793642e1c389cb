"""What a start does with a GPU's memory, in whole terms: enough to report it as vLLM does."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .arguments import Arguments

# The emulated cards, as the emulated driver reads them (rackhand.lab.nvml.conf).
HARDWARE = "/etc/rackhand-lab/nvml.conf"
HARDWARE_VARIABLE = "VLLM_STANDIN_HARDWARE"
GIB = 1 << 30
BLOCK = 16
DEFAULT_SHARE = 0.92
# A small model's share in rotary tables, activation and CUDA modules.
TABLES, ACTIVATION, OUTSIDE_TORCH = 46 << 20, 64 << 20, 225 << 20
ELEMENT_BYTES = {"float32": 4, "float": 4, "fp8": 1, "fp8_e4m3": 1, "fp8_e5m2": 1}


@dataclass(frozen=True, kw_only=True)
class Bill:
    """One rank's memory in bytes, and the tokens that its cache holds."""

    total: int
    allowed: int
    weights: int
    cache: int
    tokens: int


def bill(arguments: Arguments) -> Bill | None:
    """Return the bill on the first visible GPU, None where no driver shows one."""
    total = _usable(os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0])
    config = Path(arguments.model, "config.json")
    if not total or not config.is_file():
        return None
    ranks = int(_given(arguments, "tensor-parallel-size", "1"))
    files = sum(path.stat().st_size for path in config.parent.glob("*.safetensors"))
    allowed = int(total * float(_given(arguments, "gpu-memory-utilization", str(DEFAULT_SHARE))))
    weights = files // ranks + TABLES
    page = BLOCK * _token_bytes(json.loads(config.read_text(encoding="utf-8")), arguments, ranks)
    cache = allowed - weights - ACTIVATION - OUTSIDE_TORCH
    return Bill(total=total, allowed=allowed, weights=weights, cache=cache, tokens=cache // page * BLOCK)


def _token_bytes(config: dict[str, Any], arguments: Arguments, ranks: int) -> int:
    heads = int(config.get("num_key_value_heads", config["num_attention_heads"]))
    size = int(config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"])
    dtype = _given(arguments, "dtype", "auto")
    cache = _given(arguments, "kv-cache-dtype", "auto")
    element = ELEMENT_BYTES.get(dtype if cache == "auto" else cache, 2)
    return 2 * int(config["num_hidden_layers"]) * max(1, heads // ranks) * size * element


def _given(arguments: Arguments, name: str, default: str) -> str:
    return next(iter(arguments.given.get(name, [])), default)


def _usable(uuid: str) -> int:
    """Return a card's bytes without those that the driver keeps; 0 where there is no such card."""
    path = Path(os.environ.get(HARDWARE_VARIABLE, HARDWARE))
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    facts = dict(line.split(" ", 1) for line in lines if " " in line)
    card = next((key.rpartition(".")[0] for key, value in facts.items() if key.endswith(".uuid") and value == uuid), "")
    if not uuid or not card:
        return 0
    return (int(facts[f"{card}.memory_mib"]) - int(facts[f"{card}.reserved_mib"])) << 20
