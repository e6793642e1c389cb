"""What is wanted of one host, resolved here before the host is asked: settings, weights, environment, secrets."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import uv
from gevent.lock import BoundedSemaphore  # type: ignore[import-untyped]
from pydantic import SecretStr

from rackhand import compiler, gpu_setup, hardware_metrics, payload, settings, weights
from rackhand.catalog import deprecations, pinned_patterns
from rackhand.catalog.models import model as catalogued
from rackhand.errors import RackhandError
from rackhand.models.find import find
from rackhand.models.spec import ModelSpec
from rackhand.render import ROOT, USER
from rackhand.settings import Settings
from rackhand.survey import Survey, parse
from rackhand.weights import Weights

PORTS_WATCHED = 16
HUB_SAYS_NO = ("hub-refused", "hub-missing")
# Greenlets wait for it, whether or not this module was imported before the standard library's locks were patched.
ASKING = BoundedSemaphore(1)


class Asked(Protocol):
    """The one method of a session that a survey needs."""

    name: str

    def call(self, function: str, within_s: int = ..., **args: Any) -> Any: ...


@dataclass(frozen=True, kw_only=True)
class UvBinary:
    """The uv program to put on hosts; `name` carries its content digest, so that another version is another file."""

    path: Path
    name: str
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """One host's settings with everything that they refer to on this machine; secrets stay wrapped.

    `spec` is None where nobody can tell what memory the model takes; `spec_unknown` then says why.
    """

    settings: Settings
    weights: Weights
    spec: ModelSpec | None
    spec_unknown: str
    requirements: str
    venv: str
    uv: UvBinary
    api_key: SecretStr | None
    hub_token: SecretStr | None

    @property
    def weight_bytes(self) -> int:
        """Bytes of the weights alone: of the files, or of the spec while there are no files."""
        return self.weights.weight_bytes or (self.spec.weight_bytes if self.spec else 0)

    @property
    def total_bytes(self) -> int:
        """Bytes that the model takes on a disk, as far as known."""
        return self.weights.total_bytes or self.weight_bytes

    @property
    def warnings(self) -> tuple[str, ...]:
        """What works and will not for long."""
        return tuple(deprecations(self.settings.engine_version, self.settings.serve_options))

    def survey(self, session: Asked) -> Survey:
        """Ask a host everything at once; read-only."""
        answer = session.call(
            "survey.survey",
            120,
            root=ROOT,
            ports=list(range(self.settings.serve_port, self.settings.serve_port + PORTS_WATCHED)),
            packages=[*pinned_patterns(), *compiler.asked(self.settings), hardware_metrics.PACKAGES],
            venv=self.venv,
            model=self.weights.id,
            uv=self.uv.name,
            user=USER,
            nvml_payload=payload.nvml_probe(),
            loader=payload.LOADER,
            services=list(gpu_setup.watched()),
        )
        return parse(answer, session.name)


def resolve(data: Mapping[str, Any], where: str) -> Wishes:
    """Check one host's data and read what it refers to; raises RackhandError."""
    wished = settings.load(data, where)
    text = _requirements(wished.engine_requirements, where)
    token = settings.secret(wished.model_hub_token_from, "model_hub_token_from", where)
    files = _weights(wished)
    spec, unknown = _spec(str(files.directory or files.source), wished.model_hub_endpoint, token, where)
    return Wishes(
        settings=wished,
        weights=files,
        spec=spec,
        spec_unknown=unknown,
        requirements=text,
        venv=hashlib.sha256(f"{text}\0{wished.engine_python}".encode()).hexdigest()[:12],
        uv=_uv(wished.engine_uv_path),
        api_key=settings.secret(wished.serve_api_key_from, "serve_api_key_from", where),
        hub_token=token,
    )


def bare(wished: Settings, model: str = "", venv: str = "") -> Wishes:
    """Return wishes without files, secrets and a model's spec: of a host that has all it needs, or serves nothing."""
    return Wishes(
        settings=wished,
        weights=Weights(id=model, name=model, revision="", source="", directory=None, files=()),
        spec=None,
        spec_unknown="",
        requirements="",
        venv=venv,
        uv=UvBinary(path=Path(), name="", sha256=""),
        api_key=None,
        hub_token=None,
    )


def _weights(wished: Settings) -> Weights:
    if wished.model_path is not None:
        return _local(Path(wished.model_path).expanduser(), wished.model_name, wished.model_revision)
    if wished.model_catalogue is not None:
        row = catalogued(wished.model_catalogue, where="model_catalogue")
        return weights.hub(row.hub_id, wished.model_name, row.revision)
    return weights.hub(wished.model_hub_id or "", wished.model_name, wished.model_revision or "")


def _spec(source: str, endpoint: str | None, token: SecretStr | None, where: str) -> tuple[ModelSpec | None, str]:
    """Find what a model is; raises RackhandError where the hub answers that hosts could not get it either.

    A hub that only hosts can reach, and a model that nobody can compute, are deployed all the same, with a warning.
    """
    found = _found(source, endpoint, token)
    if isinstance(found, ModelSpec):
        return found, ""
    if found.code in HUB_SAYS_NO:
        raise RackhandError(found.code, found.what, where, found.next_step)
    return None, found.what


def _found(source: str, endpoint: str | None, token: SecretStr | None) -> ModelSpec | RackhandError:
    """Ask once for all hosts; they are planned side by side, so the others wait for the one that asks."""
    with ASKING:
        return _asked(source, endpoint, token)


@cache
def _asked(source: str, endpoint: str | None, token: SecretStr | None) -> ModelSpec | RackhandError:
    """Keep errors, too: a hub that is silent takes its time each time."""
    try:
        return find(source, endpoint=endpoint, token=token)
    except RackhandError as error:
        return error


@cache
def _local(directory: Path, name: str, revision: str | None) -> Weights:
    return weights.local(directory, name, revision)


@cache
def _requirements(path: str, where: str) -> str:
    try:
        text = Path(path).expanduser().read_text()
    except OSError as error:
        raise RackhandError(
            "requirements",
            f"cannot read {path}: {error.strerror}",
            where,
            "set engine_requirements to a hashed requirements file",
        ) from None
    if "--hash=sha256:" not in text:
        raise RackhandError(
            "requirements", f"{path} holds no hashes", where, "make it with 'uv pip compile --generate-hashes'"
        )
    return "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#")) + "\n"


@cache
def _uv(path: str | None) -> UvBinary:
    binary = Path(path).expanduser() if path else Path(uv.find_uv_bin())
    if not binary.is_file():
        raise RackhandError(
            "uv-missing", "no uv program here", str(binary), "correct engine_uv_path or run ./bootstrap"
        )
    with binary.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return UvBinary(path=binary, name=f"uv-{digest[:12]}", sha256=digest)
