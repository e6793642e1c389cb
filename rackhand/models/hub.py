"""The few small files of a model on a hub that its spec needs: config.json, the index or the header of its weights.

Speaks the hub's plain HTTP interface with the standard library; never downloads weights.
"""

import http.client
import json
import re
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

from pydantic import SecretStr
from typing_extensions import override

from rackhand.errors import RackhandError
from rackhand.models import headers
from rackhand.models.tensors import Tensor

ENDPOINT = "https://huggingface.co"
TIMEOUT_S = 20
LARGEST_FILE = 64 << 20  # bytes of a config.json or an index; real ones stay below 10 MiB
SINGLE = "model.safetensors"
TOKEN_STEP = "set model_hub_token_from to a token whose owner accepted the model's licence, and check the name"


class _MissingError(Exception):
    """The repository has no such file."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """One repository at one revision of one hub."""

    hub_id: str
    revision: str
    endpoint: str = ENDPOINT
    token: SecretStr | None = None

    @property
    def words(self) -> str:
        return f"{self.hub_id}@{self.revision[:12]}"


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """What a hub says about a model; `commit` is exact. Either `tensors`, or `total_bytes` with `names`, or neither."""

    commit: str
    config: dict[str, Any]
    quantize_config: dict[str, Any] | None = None
    tensors: dict[str, Tensor] | None = None
    total_bytes: int | None = None
    names: tuple[str, ...] = ()


def snapshot(place: Place) -> Snapshot:
    """Ask the hub.

    Raises RackhandError `hub-unreachable`, `hub-refused`, `hub-missing`, or `model-config` for a file that is not JSON.
    """
    try:
        config, commit = _object(place, "config.json")
    except _MissingError:
        raise _no_config(place) from None
    beside = None if config.get("quantization_config") else _quantize_config(place)
    try:
        index, _ = _object(place, headers.INDEX)
    except _MissingError:
        return Snapshot(commit=commit, config=config, quantize_config=beside, tensors=_header(place))
    metadata, mapped = index.get("metadata"), index.get("weight_map")
    total = metadata.get("total_size") if isinstance(metadata, dict) else None
    return Snapshot(
        commit=commit,
        config=config,
        quantize_config=beside,
        total_bytes=int(total) if isinstance(total, int | float) and total > 0 else None,
        names=tuple(map(str, mapped)) if isinstance(mapped, dict) else (),
    )


def _quantize_config(place: Place) -> dict[str, Any] | None:
    for name in ("hf_quant_config.json", "quantize_config.json"):
        try:
            return _object(place, name)[0]
        except _MissingError:
            continue
    return None


def _header(place: Place) -> dict[str, Tensor] | None:
    """Read the header of weights that are one file; None where there is none."""
    try:
        size = headers.length(_read(place, SINGLE, (0, 7))[0][:8])
        return headers.parse(_read(place, SINGLE, (8, 7 + size))[0][:size])
    except _MissingError:
        return None
    except ValueError:
        raise RackhandError(
            "model-config", f"{SINGLE} has no safetensors header", place.words, "choose another revision"
        ) from None


def _object(place: Place, name: str) -> tuple[dict[str, Any], str]:
    raw, commit = _read(place, name)
    try:
        value = json.loads(raw)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise RackhandError(
            "model-config", f"{name} is not a JSON object", place.words, "check model_hub_id and model_revision"
        )
    return value, commit


def _read(place: Place, name: str, part: tuple[int, int] | None = None) -> tuple[bytes, str]:
    """Return a file (or the bytes `part`, first and last) and the commit it is of."""
    if not place.endpoint.startswith(("https://", "http://")):
        raise _unreachable(place, "it is not an address on the web")
    try:
        opener = urllib.request.build_opener(_SameHost())
        with opener.open(_request(place, name, part), timeout=TIMEOUT_S) as answer:
            if part and answer.status == http.HTTPStatus.OK:
                answer.read(part[0])  # a server that ignores ranges sends everything
            raw = answer.read(part[1] - part[0] + 1 if part else LARGEST_FILE)
            return raw, _commit(answer.headers.get("X-Repo-Commit"), place)
    except urllib.error.HTTPError as error:
        raise _refusal(error, place) from None
    except (OSError, http.client.HTTPException) as error:
        raise _unreachable(place, getattr(error, "reason", None) or error) from None
    except ValueError:  # whose words may quote the token
        raise _unreachable(place, "its address or the token makes no sense") from None


def _request(place: Place, name: str, part: tuple[int, int] | None) -> urllib.request.Request:
    url = f"{place.endpoint.rstrip('/')}/{quote(place.hub_id)}/resolve/{quote(place.revision, safe='')}/{name}"
    request = urllib.request.Request(url, headers={"User-Agent": "rackhand", "Accept-Encoding": "identity"})
    if place.token:
        request.add_header("Authorization", f"Bearer {place.token.get_secret_value()}")
    if part:
        request.add_header("Range", f"bytes={part[0]}-{part[1]}")
    return request


def _commit(said: str | None, place: Place) -> str:
    return said if said and re.fullmatch(r"[0-9a-f]{40}", said) else place.revision


class _SameHost(urllib.request.HTTPRedirectHandler):
    """Follow redirects to where large files lie, without the token when that is another host."""

    @override
    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        following = super().redirect_request(req, fp, code, msg, headers, newurl)
        if following and urlsplit(newurl)[:2] != urlsplit(req.full_url)[:2]:
            following.remove_header("Authorization")
        return following


def _refusal(error: urllib.error.HTTPError, place: Place) -> Exception:
    said = error.headers.get("X-Error-Code", "") if error.headers else ""
    if error.code == http.HTTPStatus.NOT_FOUND and said in ("EntryNotFound", ""):
        return _MissingError()
    if error.code == http.HTTPStatus.NOT_FOUND:
        what = f"the hub has no {place.hub_id} at revision {place.revision[:12]}"
        return RackhandError("hub-missing", what, place.words, "check the name and the revision")
    if error.code in (http.HTTPStatus.UNAUTHORIZED, http.HTTPStatus.FORBIDDEN):
        kind = "gated" if said == "GatedRepo" else "gated, private or misspelt"
        return RackhandError("hub-refused", f"the hub refuses {place.hub_id}: it is {kind}", place.words, TOKEN_STEP)
    return _unreachable(place, f"it answers {error.code}")


def _unreachable(place: Place, why: object) -> RackhandError:
    what = f"cannot ask {place.endpoint}: {' '.join(str(why).split())[:120]}"
    return RackhandError(
        "hub-unreachable", what, place.words, "check model_hub_endpoint and the network, or name a model directory"
    )


def _no_config(place: Place) -> RackhandError:
    what = f"the hub has no config.json of {place.hub_id} at revision {place.revision[:12]}"
    return RackhandError("hub-missing", what, place.words, "check the name and the revision")
