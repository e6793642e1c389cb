"""Turn a plan into the texts of a release: unit, environments, configurations, manifest. Reads only templates/."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from pydantic import SecretStr

from rackhand import __version__
from rackhand.envfile import systemd_quote
from rackhand.plan import Instance, Plan
from rackhand.remote.gate import EVERYWHERE
from rackhand.remote.observe import HIDDEN
from rackhand.settings import Settings
from rackhand.weights import Weights

ROOT = "/opt/rackhand"
USER = "vllm"
TEMPLATES = Path(__file__).parent.parent / "templates"
REMOTE = Path(__file__).parent / "remote"
UNIT = "vllm@.service"
DROP_IN = "vllm@{}.service.d/rackhand.conf"
FOLLOW = "follow.py"
PUBLIC, PRIVATE = 0o644, 0o600
STOP_MARGIN_S = 30
# vLLM's own VLLM_ENGINE_READY_TIMEOUT_S.
READY_TIMEOUT_S = 600


@dataclass(frozen=True, kw_only=True)
class RenderedFile:
    """One file of a release with its final mode."""

    text: str
    mode: int


@dataclass(frozen=True, kw_only=True)
class Release:
    """A release to be placed; `configs` maps an instance to the digest of all that its process depends on.

    `drop_ins` maps the instances whose unit differs from the others' to the digest of that difference. `fingerprint` is
    the digest of the release's directory when nobody has touched it (rackhand.remote.state).
    """

    id: str
    manifest: Mapping[str, Any]
    files: Mapping[str, RenderedFile]
    configs: Mapping[str, str]
    unit_sha256: str
    drop_ins: Mapping[str, str]
    fingerprint: str


def render(plan: Plan, settings: Settings, weights: Weights, api_key: SecretStr | None, fabric: bool) -> Release:
    """Render every file of the release; the same inputs give the same id."""
    unit = _unit(plan, settings, fabric)
    files, configs = {UNIT: RenderedFile(text=unit, mode=PUBLIC)}, {}
    for instance in plan.instances:
        configs[instance.name], own = _instance(plan, settings, instance, api_key, unit)
        files |= own
    if any(instance.starts_after for instance in plan.instances):
        files[FOLLOW] = RenderedFile(text=(REMOTE / FOLLOW).read_text(), mode=PUBLIC)
    manifest = _manifest(plan, settings, weights, configs, unit)
    identity = _digest(json.dumps(manifest, sort_keys=True))
    manifest = {"id": identity, **manifest}
    text = json.dumps(manifest, indent=1, sort_keys=True) + "\n"
    files["manifest.json"] = RenderedFile(text=text, mode=PRIVATE)
    return Release(
        id=identity,
        manifest=manifest,
        files=files,
        configs=configs,
        unit_sha256=manifest["unit_sha256"],
        drop_ins=_drop_ins(files, plan),
        fingerprint=_fingerprint(files, plan),
    )


def _instance(
    plan: Plan, settings: Settings, instance: Instance, api_key: SecretStr | None, unit: str
) -> tuple[str, dict[str, RenderedFile]]:
    """Render the files of one instance; return the digest of all that its process depends on, and them."""
    options = yaml.safe_dump(engine_options(plan, settings, instance), sort_keys=True, default_flow_style=False)
    pairs = environment(plan, settings, instance, api_key)
    own = _drop_in(plan, settings, instance)
    config = _digest(unit, options, repr(pairs), plan.venv, plan.model, *filter(None, [own]))
    variables = _template("vllm.env.j2").render(pairs=[*pairs, ("RACKHAND_CONFIG", config)])
    files = {
        f"instances/{instance.name}.yaml": RenderedFile(text=options, mode=PUBLIC),
        f"instances/{instance.name}.env": RenderedFile(text=variables, mode=PRIVATE),
    }
    if own:
        files[DROP_IN.format(instance.name)] = RenderedFile(text=own, mode=PUBLIC)
    return config, files


def _fingerprint(files: Mapping[str, RenderedFile], plan: Plan) -> str:
    lines = [f"venv -> ../../venvs/{plan.venv}", f"model -> ../../models/{plan.model}"]
    lines += [f"{name} {file.mode:o} {hashlib.sha256(file.text.encode()).hexdigest()}" for name, file in files.items()]
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()[:12]


def engine_options(plan: Plan, settings: Settings, instance: Instance) -> dict[str, Any]:
    """Return vLLM's options for its --config file.

    vLLM drops `false` from that file without a word and turns null into the text "None" (seen in 0.33): a false
    flag becomes `no-<flag>: true`, and nothing is ever null.
    """
    options: dict[str, Any] = {
        "model": f"{ROOT}/models/{plan.model}",
        "served-model-name": settings.model_name,
        "host": settings.serve_host,
        "port": instance.port,
        "shutdown-timeout": settings.serve_shutdown_timeout_s,
        "disable-fastapi-docs": True,
    }
    options.update((setting.name, setting.value) for setting in instance.settings)
    return dict(_positive(name, value) for name, value in options.items())


def _positive(name: str, value: Any) -> tuple[str, Any]:
    if value is not False:
        return name, value
    return (name.removeprefix("no-") if name.startswith("no-") else f"no-{name}"), True


def environment(plan: Plan, settings: Settings, instance: Instance, api_key: SecretStr | None) -> list[tuple[str, str]]:
    """Return the variables of one instance, the secret among them; they are written to a 0600 file only."""
    variables = {
        "PATH": f"{ROOT}/venvs/{plan.venv}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "CUDA_VISIBLE_DEVICES": ",".join(plan.uuids(instance)),
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "VLLM_LOGGING_COLOR": "0",
        "VLLM_HTTP_TIMEOUT_KEEP_ALIVE": "75",
        "VLLM_USE_FLASHINFER_SAMPLER": "0",  # that one is compiled with nvcc, which no driver brings
        **_patience(plan),
        **settings.serve_env,
    }
    if api_key is not None:
        variables["VLLM_API_KEY"] = api_key.get_secret_value()
    return sorted(variables.items())


def _patience(plan: Plan) -> dict[str, str]:
    """Let vLLM's own server wait for its engine as long as the gate does, where that is longer than vLLM would."""
    long = plan.start_timeout_s > READY_TIMEOUT_S
    return {"VLLM_ENGINE_READY_TIMEOUT_S": str(plan.start_timeout_s)} if long else {}


def _unit(plan: Plan, settings: Settings, fabric: bool) -> str:
    return _template("vllm@.service.j2").render(
        root=ROOT,
        user=USER,
        venv_digest=plan.venv,
        shutdown_timeout_s=settings.serve_shutdown_timeout_s,
        stop_timeout_s=settings.serve_shutdown_timeout_s + STOP_MARGIN_S,
        requires_fabricmanager=fabric,
        read_write_paths=[f"{ROOT}/cache/{plan.venv}"],
    )


def _drop_in(plan: Plan, settings: Settings, instance: Instance) -> str:
    """Render what the unit of this instance has that the others' have not; empty where that is nothing."""
    before = next((item for item in plan.instances if item.name == instance.starts_after), None)
    if not instance.cpus and before is None:
        return ""
    host = EVERYWHERE.get(settings.serve_host, settings.serve_host)
    return _template("vllm-instance.conf.j2").render(
        root=ROOT,
        cpus=instance.cpus,
        before=before.name if before else None,
        url=f"http://{f'[{host}]' if ':' in host else host}:{before.port}/health" if before else "",
        wait_s=plan.start_timeout_s,
    )


def _drop_ins(files: Mapping[str, RenderedFile], plan: Plan) -> dict[str, str]:
    places = {item.name: DROP_IN.format(item.name) for item in plan.instances}
    texts = {name: files[place].text for name, place in places.items() if place in files}
    return {name: hashlib.sha256(text.encode()).hexdigest() for name, text in texts.items()}


def _manifest(
    plan: Plan, settings: Settings, weights: Weights, configs: Mapping[str, str], unit: str
) -> dict[str, Any]:
    """Describe the release for people, and so that the host can gate it by itself.

    No secrets and no values of environment settings.
    """
    return {
        "schema": "rackhand.release/2",
        "rackhand": __version__,
        "engine_version": plan.engine_version,
        "venv": plan.venv,
        "model": plan.model,
        "model_revision": weights.revision,
        "model_source": weights.source,
        "driver": plan.driver.version,
        "served_name": settings.model_name,
        "host": settings.serve_host,
        "start_timeout_s": plan.start_timeout_s,
        "instances": [_entry(plan, item, configs[item.name]) for item in plan.instances],
        "settings": {item.name: _shown(item) for item in plan.instances},
        "unit_sha256": hashlib.sha256(unit.encode()).hexdigest(),
    }


def _entry(plan: Plan, instance: Instance, config: str) -> dict[str, Any]:
    return {
        "name": instance.name,
        "port": instance.port,
        "gpus": list(plan.uuids(instance)),
        "config": config,
        "max_model_len": instance.max_model_len,
        "starts_after": instance.starts_after,
    }


def _shown(instance: Instance) -> dict[str, Any]:
    """Return the engine's settings as they were wished, without those whose values may be secrets."""
    return {setting.name: setting.value for setting in instance.settings if setting.name not in HIDDEN}


@cache
def _template(name: str) -> Template:
    loader = FileSystemLoader(TEMPLATES)
    jinja = Environment(
        loader=loader,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,
    )
    jinja.filters["systemd_quote"] = systemd_quote
    return jinja.get_template(name)


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]
