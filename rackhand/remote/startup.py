"""What a vLLM said about its memory while it started, read from the beginning of its journal; numbers only."""

from __future__ import annotations

import re
from typing import Any

from rackhand.remote import units

# Loading of large models draws a progress bar, a line each; after the last line of a start nothing is read.
LINES = 20_000
LAST_LINE = "Application startup complete"
MIB_PER_GIB = 1024
NUMBER = r"([0-9][0-9,]*(?:\.[0-9]+)?)"
# What a line tells: vLLM 0.24 to 0.33. Sizes are GiB there and MiB here (names that end in _mib).
LINES_THAT_TELL = tuple(
    (re.compile(pattern.replace("N", NUMBER)), names)
    for pattern, names in (
        (r"Model loading took N GiB(?: memory)? and N seconds", ("weights_mib", "load_s")),
        (r"\btorch\.compile took N s in total", ("compile_s",)),
        (r"Estimated CUDA graph memory: N GiB total", ("graphs_charged_mib",)),
        (r"Available KV cache memory: N GiB", ("available_kv_mib",)),
        (r"\bKV cache size: N tokens", ("kv_tokens",)),
        (r"Maximum concurrency for N tokens per request: Nx", ("context", "concurrency")),
        (r"(?<!Encoder )[Gg]raph capturing finished in N secs, took N GiB", ("graphs_s", "graphs_mib")),
        (r"Desired GPU memory utilization is \(N, N GiB\)", ("share", "allowed_mib")),
        (r"Actual usage is N GiB for weight, N GiB for peak activation, N GiB for non-torch memory",
         ("weights_mib", "activation_mib", "non_torch_mib")),
        (r"Actual usage is N GiB for consumed memory \(weights \+ non-torch\), N GiB for peak activation",
         ("consumed_mib", "activation_mib")),
        (r"\binit engine \(profile, create kv cache, warmup model\) took N s", ("init_s",)),
    )
)  # fmt: skip
# Lines that only an engine on a GPU writes, and those of an engine on a CPU.
ON_GPU = ("Available KV cache memory:", "Free memory on device", "skipped memory profiling")
ON_CPU = ("CPU KV cache size:", "[cpu_worker.py:", "[cpu_model_runner.py:")
# Of what every rank says, the fullest counts.
LEAST = ("available_kv_mib", "kv_tokens", "concurrency")
WHOLE = ("kv_tokens", "context", "blocks")
CACHE = {
    "kv_tokens": re.compile(r'^vllm:cache_config_info\{[^}]*\bkv_cache_size_tokens="(\d+)"', re.MULTILINE),
    "concurrency": re.compile(r'^vllm:cache_config_info\{[^}]*\bkv_cache_max_concurrency="([0-9.]+)"', re.MULTILINE),
    "blocks": re.compile(r'^vllm:cache_config_info\{[^}]*\bnum_gpu_blocks="(\d+)"', re.MULTILINE),
}


def read(invocation: str, page: str) -> dict[str, Any]:
    """Return what one start reported; what its journal does not say comes from its page of metrics, if that does."""
    return tell(units.beginning(invocation, LINES, LAST_LINE), page)


def tell(lines: list[str], page: str) -> dict[str, Any]:
    """Return `device` (gpu, cpu or empty) and every number that the lines and the page of metrics hold."""
    found: dict[str, Any] = {"device": ""}
    for line in lines:
        if any(text in line for text in ON_CPU):
            found["device"] = "cpu"
        elif not found["device"] and any(text in line for text in ON_GPU):
            found["device"] = "gpu"
        for pattern, names in LINES_THAT_TELL:
            said = pattern.search(line)
            if said:
                _add(found, dict(zip(names, said.groups())))
    for name, pattern in CACHE.items():
        said = pattern.search(page)
        if said and name not in found:
            _add(found, {name: said[1]})
    return found


def _add(found: dict[str, Any], values: dict[str, str]) -> None:
    for name, text in values.items():
        number = float(text.replace(",", "")) * (MIB_PER_GIB if name.endswith("_mib") else 1)
        chosen = min if name in LEAST else max
        value = chosen(number, found.get(name, number))
        found[name] = int(value) if name in WHOLE else round(value, 2)
