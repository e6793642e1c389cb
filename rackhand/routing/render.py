"""Turn a router's backends into the texts of its configuration, and nginx's for those who have that already. Pure."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pydantic import SecretStr

from rackhand.render import PRIVATE, PUBLIC, REMOTE, ROOT, RenderedFile
from rackhand.routing.front import Front
from rackhand.routing.servers import Backend, Fronted, backends, joined
from rackhand.templates import template

CONFIG, KNOWN, SERVERS, CLIENTS, SERVER_KEY = "haproxy.cfg", "hosts.json", "servers", "clients", "server.key"
NGINX = "nginx.conf"
# The digest names a directory that all can read: it must not help anybody to guess a key.
ROUNDS, SALT = 100_000, b"rackhand router"
SOCKET = "/run/haproxy/admin.sock"
PLACEHOLDER = "0" * 12
BODY_MIB = 64
# Where several models share a router, a request's model is looked for in so many bytes, which each upload takes.
BUFFER = 262_144
# The longest request that a reload must not cut, in seconds, and how many silences it may be longer than.
LONGEST_S, SILENCES = 3600, 4
ERRORS = (
    (400, "the router could not read the request"),
    (408, "the request did not arrive in time"),
    (500, "the router failed"),
    (502, "the server broke off"),
    (503, "no server is free at the moment"),
    (504, "the server did not answer in time"),
)


@dataclass(frozen=True, kw_only=True)
class Rendered:
    """The files of one router, in a directory that is named by their `digest`; `servers` counts those it can reach.

    `unit` is the drop-in of HAProxy's unit, `program` what that runs before a reload.
    """

    digest: str
    files: Mapping[str, RenderedFile]
    models: tuple[str, ...]
    servers: int
    unit: str
    program: str


def render(front: Front, hosts: Sequence[Fronted], router: str, addresses: Mapping[str, str]) -> Rendered:
    """Render everything that a router needs to send requests to these hosts; the same inputs give the same digest."""
    found = backends(hosts, router, addresses)
    digest = _digest(_files(front, hosts, found, PLACEHOLDER))
    return Rendered(
        digest=digest,
        files=_files(front, hosts, found, digest),
        models=tuple(backend.model for backend in found),
        servers=sum(len(backend.targets) for backend in found),
        unit=_unit(),
        program=(REMOTE / "server_states.py").read_text(),
    )


def _unit() -> str:
    place = f"{ROOT}/router"
    save = f"/usr/bin/python3 -I {place}/server_states.py {SOCKET} {place}/current/{SERVERS} {place}/servers.state"
    return template("haproxy.service.conf.j2").render(root=ROOT, save=save)


def _digest(files: Mapping[str, RenderedFile]) -> str:
    texts = {mode: "\0".join(_parts(files, mode)).encode() for mode in (PUBLIC, PRIVATE)}
    hidden = hashlib.pbkdf2_hmac("sha256", texts[PRIVATE], SALT, ROUNDS)
    return hashlib.sha256(texts[PUBLIC] + hidden).hexdigest()[:12]


def _parts(files: Mapping[str, RenderedFile], mode: int) -> Iterator[str]:
    yield from (part for name, file in sorted(files.items()) if file.mode == mode for part in (name, file.text))


def _files(front: Front, hosts: Sequence[Fronted], found: Sequence[Backend], digest: str) -> Mapping[str, RenderedFile]:
    texts = {
        CONFIG: haproxy(front, found, digest),
        KNOWN: json.dumps([host.model_dump() for host in hosts], indent=1, sort_keys=True) + "\n",
        SERVERS: "".join(f"{line}\n" for line in _servers(found)),
    }
    secret = {NGINX: nginx(front, found)}
    if front.client_key:
        secret[CLIENTS] = hashlib.sha256(_bytes(front.client_key)).hexdigest().upper() + "\n"
    if _passes_key(front) and front.server_key:
        secret[SERVER_KEY] = f"server Bearer {front.server_key.get_secret_value()}\n"
    return {
        **{name: RenderedFile(text=text, mode=PUBLIC) for name, text in texts.items()},
        **{name: RenderedFile(text=text, mode=PRIVATE) for name, text in secret.items()},
    }


def _bytes(key: SecretStr) -> bytes:
    return key.get_secret_value().encode()


def _passes_key(front: Front) -> bool:
    """Clients with a key of the router's own do not know the servers'."""
    return front.client_key is not None and front.server_key is not None


def _servers(found: Sequence[Backend]) -> Iterator[str]:
    """Yield what the state of a server is found again by: its backend, name, address and port, and its host's port."""
    for backend in found:
        for target in backend.targets:
            yield f"{backend.name} {target.name} {target.address} {target.port} {target.state_port}"


def haproxy(front: Front, found: Sequence[Backend], digest: str) -> str:
    """Render HAProxy's configuration; the files beside it lie in the directory that `digest` names."""
    wished = front.settings
    return template("haproxy.cfg.j2").render(
        root=ROOT,
        digest=digest,
        place=f"{ROOT}/router/{digest}",
        socket=SOCKET,
        bind=joined(wished.router_bind, wished.router_port),
        management=joined(wished.router_stats_bind, wished.router_stats_port),
        certificate=wished.router_tls_certificate,
        guarded=front.client_key is not None,
        passes_key=_passes_key(front),
        affinity=wished.router_affinity_header if wished.router_balance == "hash" else "",
        silence_s=wished.router_timeout_s,
        farewell_s=max(LONGEST_S, SILENCES * wished.router_timeout_s),
        body_mib=BODY_MIB,
        buffer=BUFFER,
        errors=ERRORS,
        backends=found,
        several=len(found) > 1,
        listing=_listing(found),
    )


def nginx(front: Front, found: Sequence[Backend]) -> str:
    """Render the same for nginx, which lacks checks and drains; it holds the keys in the clear."""
    wished, passed = front.settings, front.server_key if _passes_key(front) else None
    return template("nginx.conf.j2").render(
        bind=joined(wished.router_bind, wished.router_port),
        certificate=wished.router_tls_certificate,
        client_header=_header(front.client_key),
        server_header=_header(passed).replace("$", "${rackhand_dollar}"),
        affinity=wished.router_affinity_header if wished.router_balance == "hash" else "",
        silence_s=wished.router_timeout_s,
        body_mib=BODY_MIB,
        backends=found,
    )


def _header(key: SecretStr | None) -> str:
    """Quote a key as nginx reads it, with the word that stands before it; empty without a key."""
    if key is None:
        return ""
    escaped = key.get_secret_value().replace("\\", "\\\\").replace('"', '\\"')
    return f'"Bearer {escaped}"'


def _listing(found: Sequence[Backend]) -> str:
    """Return the list of models in the API's form; each server only knows its own."""
    data = [{"id": backend.model, "object": "model", "owned_by": "vllm"} for backend in found]
    return json.dumps({"object": "list", "data": data}, separators=(",", ":"))
