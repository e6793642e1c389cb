"""Settings that are right alone and wrong together.

These rules read raw host data, so that they are reported beside wrong types and unknown keys, all at once.
"""

import difflib
import ipaddress
import re
from collections.abc import Mapping
from typing import Any

from rackhand.catalog.health import XID, health_codes
from rackhand.outcome import Severity
from rackhand.setting_types import dashed

LOOPBACK = ("127.0.0.1", "::1", "localhost")

OWNED_OPTIONS = {
    "api-key": "it would be readable in the config file; use serve_api_key_from",
    "hf-token": "it would be readable in the config file; use model_hub_token_from",
    "config": "rackhand writes that file",
    "model": "use model_path, model_hub_id or model_catalogue",
    "served-model-name": "use model_name",
    "host": "use serve_host",
    "port": "use serve_port",
    "tensor-parallel-size": "use serve_tensor_parallel_size",
    "pipeline-parallel-size": "use serve_pipeline_parallel_size",
    "data-parallel-size": "rackhand makes one instance of each replica; use serve_instances",
    "device-memory-utilization": "use serve_gpu_memory_utilization",
    "device-ids": "rackhand derives them from the plan",
    "max-model-len": "use serve_max_model_len",
    "gpu-memory-utilization": "use serve_gpu_memory_utilization",
    "shutdown-timeout": "use serve_shutdown_timeout_s",
}
OWNED_VARIABLES = ("PATH", "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "RACKHAND_CONFIG", "VLLM_PORT")
_SECRET_NAME = re.compile(r"(TOKEN|SECRET|PASSWORD|PASSPHRASE|API_?KEY|ACCESS_KEY)$", re.IGNORECASE)


def conflicts(values: Mapping[str, Any]) -> list[str]:
    """Return one sentence for every contradiction among the settings; values may have any type."""
    return [
        *_model_source(values),
        *_driver_version(values),
        *_driver_source(values),
        *_shares(values),
        *_public_bind(values),
        *_owned_options(values),
        *_owned_environment(values),
        *_secret_environment(values),
        *_findings(values),
    ]


def _model_source(values: Mapping[str, Any]) -> list[str]:
    hub = values.get("model_hub_id")
    if sum(values.get(name) is not None for name in ("model_path", "model_hub_id", "model_catalogue")) != 1:
        return ["give exactly one of model_path (a directory here), model_hub_id (owner/name) and model_catalogue"]
    if hub is not None and len(str(values.get("model_revision") or "")) != 40:
        return ["model_hub_id needs model_revision, the full 40-digit commit: a branch name can change under you"]
    return []


def _driver_version(values: Mapping[str, Any]) -> list[str]:
    version, branch = values.get("driver_version"), values.get("driver_branch")
    if not isinstance(version, str) or not isinstance(branch, str) or version.startswith(f"{branch}."):
        return []
    return ["driver_version is not of driver_branch: set driver_branch to what stands before its first dot"]


def _driver_source(values: Mapping[str, Any]) -> list[str]:
    named = [key for key in ("driver_repository_url", "driver_key_fingerprint") if values.get(key) is not None]
    if values.get("driver_source") != "distribution" or not named:
        return []
    return [f"{' and '.join(named)}: driver_source = 'distribution' takes what the host's own apt sources have"]


def _shares(values: Mapping[str, Any]) -> list[str]:
    if not values.get("serve_gpu_shares") or values.get("serve_gpu_memory_utilization") is None:
        return []
    return ["serve_gpu_shares are the shares of the memory: leave out serve_gpu_memory_utilization"]


def _public_bind(values: Mapping[str, Any]) -> list[str]:
    host = values.get("serve_host")
    if not isinstance(host, str) or host in LOOPBACK or values.get("serve_api_key_from") is not None:
        return []
    return [
        f"serve_host{_address(host)} is public and serve_api_key_from is not set: anybody could use the GPUs; "
        "set serve_api_key_from = 'env:NAME' or 'file:PATH', or bind to 127.0.0.1"
    ]


def _address(host: str) -> str:
    try:
        return f" {ipaddress.ip_address(host)}"
    except ValueError:
        return ""


def _owned_options(values: Mapping[str, Any]) -> list[str]:
    options = dashed(values.get("serve_options"))
    owned = sorted(OWNED_OPTIONS.keys() & options.keys()) if isinstance(options, Mapping) else []
    return [f"serve_options must not hold '{name}': {OWNED_OPTIONS[name]}" for name in owned]


def _owned_environment(values: Mapping[str, Any]) -> list[str]:
    environment = values.get("serve_env")
    given = environment if isinstance(environment, Mapping) else {}
    owned = sorted(given.keys() & set(OWNED_VARIABLES))
    broken = sorted(str(name) for name, value in given.items() if "\0" in str(value))
    return [
        *(f"serve_env must not hold {name}: rackhand derives it from the plan" for name in owned),
        *(f"serve_env {name} holds a NUL character, which no environment can" for name in broken),
    ]


def _secret_environment(values: Mapping[str, Any]) -> list[str]:
    environment = values.get("serve_env")
    names = environment if isinstance(environment, Mapping) else {}
    found = sorted(name for name in names if isinstance(name, str) and _SECRET_NAME.search(name))
    if not found:
        return []
    return [
        f"serve_env must not hold {', '.join(found)}: secrets do not belong in serve_env, any log may print it; "
        "use serve_api_key_from or model_hub_token_from"
    ]


def _findings(values: Mapping[str, Any]) -> list[str]:
    """Say what is no finding of the health check: misspelt, it would do nothing, and nobody saw that."""
    known = {*health_codes(), *(severity.value for severity in Severity)}
    wrong = []
    for setting in ("health_block", "health_ignore"):
        given = values.get(setting)
        for position, name in enumerate(given if isinstance(given, list | tuple) else []):
            if isinstance(name, str) and name not in known and not re.fullmatch(rf"{XID}[1-9]\d*", name):
                near = difflib.get_close_matches(name, known, n=1)
                hint = f" (did you mean '{near[0]}'?)" if near else ""
                wrong.append(f"{setting}[{position}] is no finding of the health check{hint}")
    return wrong
