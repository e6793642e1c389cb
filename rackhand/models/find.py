"""Find a model's spec by what people call it: a directory, a hub id, or a name of the catalogue."""

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from rackhand.catalog import models as catalogue
from rackhand.catalog.models import ModelRow
from rackhand.errors import RackhandError
from rackhand.models import cache, headers, hub
from rackhand.models.config import spec_from_config
from rackhand.models.hub import Place, Snapshot
from rackhand.models.spec import ModelSpec

HUB_ID = re.compile(r"[\w][\w.-]*/[\w][\w.-]*(@[\w./-]+)?")
MAIN = "main"
QUANTIZE_FILES = ("hf_quant_config.json", "quantize_config.json")


def find(
    model: str,
    *,
    revision: str | None = None,
    endpoint: str | None = None,
    token: SecretStr | None = None,
) -> ModelSpec:
    """Return the spec of a model directory (config.json is enough), a hub id `owner/name[@revision]` or a catalogue id.

    A hub is asked for a few small files, which are kept: for a pinned revision once, for others again whenever the hub
    can be reached. Raises RackhandError `model-missing`, `unknown-model`, `hub-unreachable`, `hub-refused`,
    `hub-missing`, `model-config` or `model-unsupported`.
    """
    path = Path(model).expanduser()
    if path.is_dir():
        return of_directory(path)
    if model.startswith(("/", "./", "../", "~", ".")) or not model.strip():
        what = "this machine has no such directory"
        raise RackhandError("model-missing", what, model, "name a directory with a config.json, or a hub id")
    if not HUB_ID.fullmatch(model):
        return _of_row(catalogue.model(model))
    hub_id, _, pinned = model.partition("@")
    place = Place(hub_id=hub_id, revision=revision or pinned or MAIN, endpoint=endpoint or hub.ENDPOINT, token=token)
    return of_hub(place)


def of_directory(directory: Path) -> ModelSpec:
    """Return the spec of a model directory; bytes are those of its safetensors headers, its index, or computed."""
    config = _json(directory / "config.json")
    if config is None:
        what = "config.json is missing"
        raise RackhandError("model-missing", what, str(directory), "name a directory with a config.json")
    beside = next((found for name in QUANTIZE_FILES if (found := _json(directory / name))), None)
    tensors = headers.of_directory(directory)
    index = {} if tensors else _json(directory / headers.INDEX) or {}
    metadata, mapped = index.get("metadata"), index.get("weight_map")
    total = metadata.get("total_size") if isinstance(metadata, dict) else None
    return spec_from_config(
        config,
        directory.resolve().name,
        tensors=tensors,
        total_bytes=total if isinstance(total, int) else None,
        tensor_names=tuple(mapped) if isinstance(mapped, dict) else (),
        quantize_config=beside,
    )


def of_hub(place: Place) -> ModelSpec:
    """Return the spec of a model on a hub; without the network from the cache, or else from the catalogue."""
    kept = cache.load(place)
    if kept and cache.pinned(place.revision):
        return _of_snapshot(place, kept)
    try:
        found = hub.snapshot(place)
    except RackhandError as error:
        if error.code != "hub-unreachable":
            raise
        if kept:
            return _of_snapshot(place, kept)
        row = _row(place)
        if row is None:
            raise
        return _of_row(row)
    cache.save(place, found)
    return _of_snapshot(place, found)


def _of_snapshot(place: Place, found: Snapshot) -> ModelSpec:
    spec = spec_from_config(
        found.config,
        place.hub_id,
        tensors=found.tensors,
        total_bytes=found.total_bytes,
        tensor_names=found.names,
        quantize_config=found.quantize_config,
    )
    return replace(spec, revision=found.commit)


def _of_row(row: ModelRow) -> ModelSpec:
    spec = spec_from_config(row.config, row.hub_id, total_bytes=row.weight_bytes, quantize_config=row.quantize_config)
    return replace(spec, revision=row.revision, weights_source="declared", needs_remote_code=row.trust_remote_code)


def _row(place: Place) -> ModelRow | None:
    """Return the catalogue's row for a hub id, unless another revision is asked for."""
    rows = [row for row in catalogue.model_book() if row.hub_id.lower() == place.hub_id.lower()]
    return next((row for row in rows if place.revision in (MAIN, row.revision)), None)


def _json(path: Path) -> Mapping[str, Any] | None:
    """Read a JSON object; None when there is no such file. Raises RackhandError `model-config`."""
    try:
        value = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        what = f"{path.name} is not a readable JSON object"
        raise RackhandError("model-config", what, str(path.parent), "download the model again")
    return value
