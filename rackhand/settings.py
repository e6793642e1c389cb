"""Settings: flat host data in, one frozen, checked Settings out.

group_data/all.py documents every key. A key's prefix names its owner; an unknown key under one of our prefixes is an
error, because a typo that is ignored changes a fleet silently.
"""

import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator

from rackhand import setting_types as types
from rackhand.errors import RackhandError
from rackhand.setting_conflicts import LOOPBACK, OWNED_OPTIONS, conflicts
from rackhand.setting_types import Auto, EnvironmentName, Few, Name, OptionName, OptionValue, Port, Seconds

__all__ = ["LOOPBACK", "OWNED_OPTIONS", "PREFIXES", "Settings", "load", "part", "secret"]

PREFIXES = (
    "driver_", "gpu_", "engine_", "model_", "serve_", "gate_", "rollout_", "drain_", "lease_", "release_", "router_",
    "health_", "preflight_", "report_", "metrics_",
)  # fmt: skip

# Stands for the settings that only a host with a model needs.
MODELLESS = {"model_name": "none", "model_path": "."}


class Settings(BaseModel):
    """Everything an operator may wish for one host; defaults are in group_data/all.py's terms."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, hide_input_in_errors=True, protected_namespaces=()
    )

    driver_manage: bool = True
    driver_source: Literal["nvidia", "distribution"] = "nvidia"
    driver_branch: types.Branch | None = None
    driver_version: types.DriverVersion | None = None
    driver_repository_url: types.BaseUrl | None = None
    driver_key_fingerprint: types.Fingerprint | None = None
    driver_require_rollback: bool = False
    driver_reboot_allowed: bool = True
    driver_reboot_timeout_s: Seconds = 1800
    driver_install_timeout_s: Seconds = 3600

    gpu_count: Annotated[int, Field(ge=0, le=64)] | None = None
    gpu_model: str | None = None
    gpu_power_limit_w: types.Watts | types.WattsByCard | None = None
    gpu_ecc: bool | None = None
    gpu_mig: Literal["off"] | types.MigByCard | None = None

    engine_version: types.EngineVersion = "0.32.0"
    engine_requirements: str = "requirements/vllm-0.32.0.txt"
    engine_python: types.PythonVersion = "3.12"
    engine_uv_env: dict[EnvironmentName, str] = {}
    engine_uv_path: str | None = None
    engine_host_packages: tuple[str, ...] | None = None
    engine_build_timeout_s: Seconds = 3600
    engine_disk_mib: Annotated[int, Field(ge=1)] = 25_000

    model_name: Name
    model_path: str | None = None
    model_hub_id: types.HubId | None = None
    model_catalogue: types.Name | None = None
    model_revision: types.Revision | None = None
    model_hub_endpoint: types.Url | None = None
    model_hub_token_from: types.SecretSource | None = None
    model_transfer_timeout_s: Seconds = 14_400

    serve_host: str = "127.0.0.1"
    serve_port: Port = 8000
    serve_instances: Auto | Few = "auto"
    serve_tensor_parallel_size: Auto | Few = "auto"
    serve_pipeline_parallel_size: Auto | Few = "auto"
    serve_gpu_shares: tuple[types.Share, ...] = ()
    serve_preset: Literal["balanced", "throughput", "latency", "long-context", "cost", "debug"] = "balanced"
    serve_allow_fp8: bool = False
    serve_allow_fp8_kv: bool = False
    serve_max_model_len: Auto | Annotated[int, Field(ge=16)] | None = None
    serve_gpu_memory_utilization: Annotated[float, Field(ge=0.5, le=0.98)] | None = None
    serve_options: dict[OptionName, OptionValue] = {}
    serve_env: dict[EnvironmentName, str] = {}
    serve_api_key_from: types.SecretSource | None = None
    serve_shutdown_timeout_s: Seconds = 60

    gate_start_timeout_s: Seconds | None = None
    gate_request_timeout_s: Seconds = 60

    rollout_canary: tuple[types.Name, ...] = ()
    rollout_waves: tuple[types.WaveSize, ...] = (1, "25%")
    rollout_soak_s: types.Pause = 0
    rollout_max_out: Few | None = None
    rollout_max_failures: types.Count = 0
    rollout_min_replicas: Auto | types.Count = "auto"
    rollout_instances_at_once: Few = 1
    rollout_confirm_s: Seconds = 120

    drain_timeout_s: Seconds = 600
    drain_on_timeout: Literal["stop", "proceed"] = "stop"

    lease_s: Annotated[int, Field(ge=30, le=3600)] = 300
    lease_break: bool = False

    release_keep: Annotated[int, Field(ge=2, le=100)] = 3

    router_address: types.Address | None = None
    router_state_port: Port = 9105
    router_bind: types.Address = "0.0.0.0"
    router_port: types.AnyPort = 8080
    router_stats_bind: types.Address = "127.0.0.1"
    router_stats_port: Port = 8404
    router_tls_certificate: types.AbsolutePath | None = None
    router_api_key_from: types.SecretSource | None = None
    router_balance: Literal["leastconn", "hash"] = "leastconn"
    router_affinity_header: types.HeaderName = "x-session-id"
    router_timeout_s: Seconds = 900

    health_block: tuple[types.SeverityOrCode, ...] = ("fatal", "error")
    health_ignore: tuple[types.FindingCode, ...] = ()
    health_dcgm: bool = True

    preflight_on_refusal: Literal["stop", "skip"] = "stop"
    preflight_on_unhealthy: Literal["stop", "skip"] = "skip"
    report_dir: str = "reports"

    metrics_hardware: Literal["auto", "textfile", "dcgm", "off"] = "auto"
    metrics_directory: types.AbsolutePath = "/var/lib/prometheus/node-exporter"

    @field_validator("serve_options", mode="before")
    @classmethod
    def _dashed(cls, options: Any) -> Any:
        return types.dashed(options)

    @model_validator(mode="after")
    def _no_conflicts(self) -> "Settings":
        found = conflicts(self.model_dump())
        if found:
            raise ValueError("; ".join(found))
        return self


HINTS: dict[str, Any] = {name: get_type_hints(Settings, include_extras=True)[name] for name in Settings.model_fields}
DEFAULTS: dict[str, Any] = {name: f.default for name, f in Settings.model_fields.items() if not f.is_required()}


def load(data: Mapping[str, Any], where: str) -> Settings:
    """Check the merged host data of one host and return its Settings.

    Raises RackhandError `settings` that names every bad key at once and repeats no text value: it may be a secret.
    """
    ours = {key: _plain(value) for key, value in data.items() if key in HINTS}
    problems = [text for key in sorted(data.keys() - HINTS.keys()) for text in _unknown(key)]
    settings: Settings | None = None
    try:
        settings = Settings(**ours)
    except ValidationError as error:
        problems += _explain(error)
        problems += conflicts({**DEFAULTS, **ours})
    if settings is None or problems:
        raise RackhandError(
            "settings",
            "; ".join(problems),
            where,
            "correct the inventory or group_data (reference: group_data/all.py)",
        )
    return settings


def part(data: Mapping[str, Any], prefixes: tuple[str, ...], where: str) -> Settings:
    """Check what begins with `prefixes` and leave the rest alone, for who serves no model; raises as `load` does."""
    return load({**{key: value for key, value in data.items() if key.startswith(prefixes)}, **MODELLESS}, where)


def secret(source: str | None, key: str, where: str) -> SecretStr | None:
    """Read a secret from `env:NAME` or `file:PATH` on this machine; None when no source is set.

    Raises RackhandError `secret` when the source is empty; the value is never part of the message.
    """
    if source is None:
        return None
    kind, _, name = source.partition(":")
    try:
        value = os.environ.get(name, "") if kind == "env" else Path(name).expanduser().read_text().strip()
    except (OSError, RuntimeError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "not readable as text"
        raise RackhandError(
            "secret", f"{key}: cannot read {name} ({why})", where, "create the file, mode 0600"
        ) from None
    if not value or any(ord(character) < 32 for character in value):
        missing = kind == "env" and name not in os.environ
        what = f"{key}: {source} is not set" if missing else f"{key}: {source} is empty or has several lines"
        raise RackhandError("secret", what, where, f"provide one line in {source}")
    return SecretStr(value)


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _unknown(key: str) -> list[str]:
    # A misspelt prefix leaves our name space: outside it, only a near miss of a real setting is called a typo.
    near = difflib.get_close_matches(key, HINTS, n=1, cutoff=0.6 if key.startswith(PREFIXES) else 0.88)
    if not near and not key.startswith(PREFIXES):
        return []
    return [f"unknown setting '{key}'" + (f" (did you mean '{near[0]}'?)" if near else "")]


def _explain(error: ValidationError) -> list[str]:
    details = error.errors(include_input=False, include_url=False)
    return list(dict.fromkeys(_sentence(detail["loc"], detail["type"]) for detail in details if detail["loc"]))


def _sentence(loc: tuple[str | int, ...], kind: str) -> str:
    setting = str(loc[0])
    if kind == "missing":
        return f"{setting}: is required, {types.allowed(HINTS[setting])}"
    key, item = types.parts(HINTS[setting])
    if loc[-1] == "[key]":
        return f"{setting}: '{loc[1]}' must be {types.allowed(key)}"
    if item is not None and len(loc) > 1:
        return f"{setting}[{loc[1]!r}]: must be {types.allowed(item)}"
    return f"{setting}: must be {types.allowed(HINTS[setting])}"
