"""What a host's engines say about themselves, over some seconds. It changes nothing; keys and tokens stay here."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from rackhand.remote import gate, kernel_log, state, units

# Options whose values may be secrets.
HIDDEN = ("api-key", "api_key", "hf-token", "hf_token")
KEPT_KERNEL_LINES = 50
KERNEL_WORDS = ("NVRM: Xid", "Out of memory: Killed process", "oom-kill:")
EVERY_S = 1.0
# vLLM names its configuration, kernels and memory within so many lines.
FIRST_LINES = 400


def instances(root: str) -> dict[str, Any]:
    """Describe the instances of the current release: settings as text, unit, the release's version and model."""
    current = Path(root, "current")
    manifest = state.read_json(current / "manifest.json")
    return {
        "version": str(manifest.get("engine_version", "")),
        "model": str(manifest.get("served_name", "")),
        "instances": [_instance(current, item) for item in manifest.get("instances", [])],
    }


def _instance(current: Path, item: dict[str, Any]) -> dict[str, Any]:
    name = str(item["name"])
    lines = (current / "instances" / f"{name}.yaml").read_text().splitlines()
    return {
        "name": name,
        "settings": "\n".join(line for line in lines if line.split(":")[0].strip("\"' ") not in HIDDEN),
        "unit": units.describe(name),
    }


def watch(
    instances: list[dict[str, Any]], seconds: int, loader: str, gpu_payload: str, gate_timeout_s: int | None
) -> dict[str, Any]:
    """Look at /metrics of each instance for some seconds, at the GPUs meanwhile, then at journals and kernel log.

    With `gate_timeout_s` every instance is put through the gate afterwards, which asks it for five tokens.
    """
    gpus = _start([sys.executable, "-c", loader], gpu_payload)
    begun = time.monotonic()
    pages: dict[str, list[str]] = {instance["name"]: [] for instance in instances}
    while True:
        for instance in instances:
            pages[instance["name"]] += _metrics(instance)
        if time.monotonic() - begun >= seconds:
            break
        time.sleep(EVERY_S)
    took = time.monotonic() - begun
    load = _result(gpus, seconds + 30)
    passed = _gate(instances, gate_timeout_s) if gate_timeout_s is not None and instances else {}
    seen = [_seen(instance, pages[instance["name"]], passed.get(instance["name"])) for instance in instances]
    return {"seconds": took, "gpus": load, "kernel": _kernel(), "instances": seen}


def _seen(instance: dict[str, Any], pages: list[str], passed: dict[str, Any] | None) -> dict[str, Any]:
    name = instance["name"]
    unit = units.describe(name)
    return {
        "name": name,
        "unit": unit,
        "gpus": state.variable(unit["pid"], "CUDA_VISIBLE_DEVICES").split(","),
        "metrics": pages,
        "context": _context(instance, unit["pid"]),
        "journal": _journal(unit),
        "gate": passed,
    }


def _journal(unit: dict[str, Any]) -> list[str]:
    """Return the first lines of this start and the newest ones, with those of earlier starts if it was restarted."""
    newest = units.journal(unit["name"], only="" if unit["restarts"] else unit["invocation"])
    known = set(newest)
    return [*(line for line in units.beginning(unit["invocation"], FIRST_LINES) if line not in known), *newest]


def _metrics(instance: dict[str, Any]) -> list[str]:
    """Return the page's samples of vLLM in a list, or an empty list when nobody answers."""
    status, text = gate.get(instance, "/metrics", 5)
    lines = [line for line in text.splitlines() if line.startswith("vllm:") and "_created{" not in line]
    return ["\n".join(lines)] if status == 200 and lines else []


def _context(instance: dict[str, Any], pid: int) -> int | None:
    """Return the context that the API names for the model."""
    status, text = gate.get({**instance, "key": state.variable(pid, "VLLM_API_KEY")}, "/v1/models", 5)
    try:
        listed = json.loads(text)["data"] if status == 200 else []
        found = [item["max_model_len"] for item in listed if item.get("id") == instance["model"]]
    except (ValueError, KeyError, TypeError, AttributeError):
        found = []
    return found[0] if found else None


def _gate(instances: list[dict[str, Any]], timeout_s: int) -> dict[str, Any]:
    keyed = [{**item, "key": state.variable(units.describe(item["name"])["pid"], "VLLM_API_KEY")} for item in instances]
    return {item["name"]: {"failure": item["failure"], "what": item["what"]} for item in gate.check(keyed, timeout_s)}


def _kernel() -> list[str]:
    """Return the kernel's lines since boot about GPUs that failed and memory that ran out."""
    return (kernel_log.lines(KERNEL_WORDS) or [])[-KEPT_KERNEL_LINES:]


def _start(command: list[str], text: str) -> subprocess.Popen[bytes]:
    """Start a program on a text that it reads from its standard input."""
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    if process.stdin is not None:
        process.stdin.write(text.encode())
        process.stdin.close()
        process.stdin = None
    return process


def _result(process: subprocess.Popen[bytes], within_s: float) -> dict[str, Any]:
    """Return what the GPU samples say; a crash inside NVML's library, or a hang, gives nothing."""
    try:
        stdout, _ = process.communicate(timeout=within_s)
        answer: dict[str, Any] = json.loads(stdout)["result"]
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return {}
    except (ValueError, KeyError):
        return {}
    return answer
