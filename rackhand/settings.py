"""Settings: flat host data in, one frozen, checked Settings out.

group_data/all.py documents every key. A key's prefix names its owner; an unknown key under one of our prefixes is an error,
because a typo that is ignored changes a fleet silently.
"""

import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator

from rackhand.errors import RackhandError

PREFIXES = ("driver_", "gpu_", "engine_", "model_", "serve_", "gate_", "preflight_", "report_")
LOOPBACK = ("127.0.0.1", "::1", "localhost")

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=64)]
Port = Annotated[int, Field(ge=1024, le=65535)]
Seconds = Annotated[int, Field(ge=1, le=86_400)]
Scalar = bool | int | float | str
OptionValue = Scalar | list[Scalar] | dict[str, Any]
EnvironmentName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
SecretSource = Annotated[str, Field(pattern=r"^(env|file):.+$")]


class Settings(BaseModel):
    """Everything an operator may wish for one host; defaults are in group_data/all.py's terms."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True, protected_namespaces=())

    driver_manage: bool = True
    driver_branch: Annotated[str, Field(pattern=r"^\d{3}$")] = "580"
    driver_version: Annotated[str, Field(pattern=r"^\d{3}\.\d+(\.\d+)?$")] | None = None
    driver_repository_url: Annotated[str, Field(pattern=r"^https?://.+[^/]$")] | None = None
    driver_key_fingerprint: Annotated[str, Field(pattern=r"^[0-9A-F]{40}$")] | None = None
    driver_reboot_allowed: bool = True
    driver_reboot_timeout_s: Seconds = 1800
    driver_install_timeout_s: Seconds = 3600

    gpu_count: Annotated[int, Field(ge=0, le=64)] | None = None
    gpu_model: str | None = None

    engine_version: Annotated[str, Field(pattern=r"^\d+\.\d+\.\d+(\.?(post|rc)\d+)?$")] = "0.33.0"
    engine_requirements: str = "requirements/vllm-0.33.0.txt"
    engine_python: Annotated[str, Field(pattern=r"^3\.\d+$")] = "3.12"
    engine_uv_env: dict[EnvironmentName, str] = {}
    engine_uv_path: str | None = None
    engine_host_packages: tuple[str, ...] = ("gcc", "libc6-dev")
    engine_build_timeout_s: Seconds = 3600
    engine_disk_mib: Annotated[int, Field(ge=1)] = 25_000

    model_name: Name
    model_path: str | None = None
    model_hub_id: Annotated[str, Field(pattern=r"^[\w.-]+/[\w.-]+$")] | None = None
    model_revision: Annotated[str, Field(pattern=r"^[0-9a-f]{12,64}$")] | None = None
    model_hub_endpoint: Annotated[str, Field(pattern=r"^https?://")] | None = None
    model_hub_token_from: SecretSource | None = None
    model_transfer_timeout_s: Seconds = 14_400

    serve_host: str = "127.0.0.1"
    serve_port: Port = 8000
    serve_instances: Literal["auto"] | Annotated[int, Field(ge=1, le=64)] = "auto"
    serve_tensor_parallel_size: Literal["auto"] | Annotated[int, Field(ge=1, le=64)] = "auto"
    serve_max_model_len: Annotated[int, Field(ge=16)] | None = None
    serve_gpu_memory_utilization: Annotated[float, Field(ge=0.5, le=0.98)] = 0.92
    serve_options: dict[Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")], OptionValue] = {}
    serve_env: dict[EnvironmentName, str] = {}
    serve_api_key_from: SecretSource | None = None
    serve_shutdown_timeout_s: Seconds = 60

    gate_start_timeout_s: Seconds | None = None
    gate_request_timeout_s: Seconds = 60

    preflight_on_refusal: Literal["stop", "skip"] = "stop"
    report_dir: str = "reports"

    @model_validator(mode="after")
    def _one_model_source(self) -> "Settings":
        if (self.model_path is None) == (self.model_hub_id is None):
            raise ValueError("give exactly one of model_path (a directory here) and model_hub_id (owner/name)")
        if self.model_hub_id and not (self.model_revision and len(self.model_revision) == 40):
            raise ValueError("model_hub_id needs model_revision, the full 40-digit commit: a branch name can change under you")
        return self

    @model_validator(mode="after")
    def _public_bind_needs_key(self) -> "Settings":
        if self.serve_host not in LOOPBACK and self.serve_api_key_from is None:
            raise ValueError(
                f"serve_host {self.serve_host} is public and serve_api_key_from is not set: anybody could use the GPUs; "
                "set serve_api_key_from = 'env:NAME' or 'file:PATH', or bind to 127.0.0.1"
            )
        return self

    @model_validator(mode="after")
    def _options_do_not_shadow(self) -> "Settings":
        owned = sorted(OWNED_OPTIONS.keys() & self.serve_options.keys())
        if owned:
            raise ValueError("; ".join(f"serve_options must not hold '{name}': {OWNED_OPTIONS[name]}" for name in owned))
        if "VLLM_API_KEY" in self.serve_env or "HF_TOKEN" in self.serve_env:
            raise ValueError("secrets do not belong in serve_env: use serve_api_key_from or model_hub_token_from")
        return self


OWNED_OPTIONS = {
    "api-key": "it would be readable in the config file; use serve_api_key_from",
    "hf-token": "it would be readable in the config file; use model_hub_token_from",
    "config": "rackhand writes that file",
    "model": "use model_path or model_hub_id",
    "served-model-name": "use model_name",
    "host": "use serve_host",
    "port": "use serve_port",
    "tensor-parallel-size": "use serve_tensor_parallel_size",
    "max-model-len": "use serve_max_model_len",
    "gpu-memory-utilization": "use serve_gpu_memory_utilization",
    "shutdown-timeout": "use serve_shutdown_timeout_s",
}


def load(data: Mapping[str, Any], where: str) -> Settings:
    """Check the merged host data of one host and return its Settings.

    Raises RackhandError `settings` that names every bad key at once.
    """
    known = Settings.model_fields
    ours = {key: _plain(value) for key, value in data.items() if key.startswith(PREFIXES)}
    unknown = [_unknown(key) for key in sorted(ours.keys() - known.keys())]
    problems: list[str] = []
    settings: Settings | None = None
    try:
        settings = Settings(**{key: value for key, value in ours.items() if key in known})
    except ValidationError as error:
        problems = [_explain(detail) for detail in error.errors(include_input=False, include_url=False)]
    if settings is None or unknown:
        raise RackhandError("settings", "; ".join(unknown + problems), where, "correct the inventory or group_data (reference: group_data/all.py)")
    return settings


def secret(source: str | None, key: str, where: str) -> SecretStr | None:
    """Read a secret from `env:NAME` or `file:PATH` on this machine; None when no source is set.

    Raises RackhandError `secret` when the source is empty; the value is never part of the message.
    """
    if source is None:
        return None
    kind, _, name = source.partition(":")
    try:
        value = os.environ.get(name, "") if kind == "env" else Path(name).expanduser().read_text().strip()
    except OSError as error:
        raise RackhandError("secret", f"{key}: cannot read {name} ({error.strerror})", where, "create the file, mode 0600") from None
    if not value or "\n" in value:
        raise RackhandError("secret", f"{key}: {source} is empty or has several lines", where, f"provide one line in {source}")
    return SecretStr(value)


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _unknown(key: str) -> str:
    near = difflib.get_close_matches(key, Settings.model_fields, n=1)
    return f"unknown setting '{key}'" + (f" (did you mean '{near[0]}'?)" if near else "")


def _explain(detail: Any) -> str:
    path = ".".join(str(part) for part in detail["loc"])
    message = detail["msg"].removeprefix("Value error, ")
    return f"{path}: {message}" if path else message
