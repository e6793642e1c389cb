"""GPU hosts as a router knows them: where their servers are and what they serve. Pure."""

import ipaddress
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rackhand.frozen import Frozen
from rackhand.plan import Plan
from rackhand.remote.gate import EVERYWHERE
from rackhand.setting_conflicts import LOOPBACK
from rackhand.shelf import Shelved

SEQUENCES = "max-num-seqs"


class Server(Frozen):
    """One vLLM server; `at_once` is how many requests it works on at the same time, None where nobody chose."""

    instance: str
    port: int
    model: str
    at_once: int | None = None


class Fronted(Frozen):
    """One GPU host: the address at which routers reach it, and the one that its servers `listen` on."""

    name: str
    address: str
    listens: str
    state_port: int
    servers: tuple[Server, ...] = ()

    def reached_from(self, router: str) -> str:
        """Return the address for a router, which may be this very host; empty where there is no way."""
        if self.listens in EVERYWHERE:
            return EVERYWHERE[self.listens] if router == self.name else self.address
        if self.listens in LOOPBACK:
            return ("127.0.0.1" if self.listens == "localhost" else self.listens) if router == self.name else ""
        return self.listens


@dataclass(frozen=True, kw_only=True)
class Target:
    """One line of a backend: where requests go, and where its host tells whether it is ready."""

    name: str
    instance: str
    address: str
    port: int
    state_port: int
    at_once: int | None

    @property
    def place(self) -> str:
        """Write address and port as HAProxy and nginx read them."""
        return joined(self.address, self.port)


@dataclass(frozen=True, kw_only=True)
class Backend:
    """All servers of one model; `name` is the backend's in the configuration."""

    name: str
    model: str
    targets: tuple[Target, ...]


def joined(host: str, port: int) -> str:
    """Write an address with its port; an IPv6 address gets its brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def of_release(release: Shelved) -> tuple[Server, ...]:
    """Return the servers of a release that is on a host."""
    return tuple(
        Server(
            instance=each.name,
            port=each.port,
            model=release.served_name,
            at_once=_whole(release.settings.get(each.name, {}).get(SEQUENCES)),
        )
        for each in release.instances
    )


def of_plan(plan: Plan, model: str) -> tuple[Server, ...]:
    """Return the servers that a host is to have, before there is a release."""
    found = {each.name: [item.value for item in each.settings if item.name == SEQUENCES] for each in plan.instances}
    return tuple(
        Server(instance=each.name, port=each.port, model=model, at_once=_whole(next(iter(found[each.name]), None)))
        for each in plan.instances
    )


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and value > 0 else None


def union(*several: Sequence[Server]) -> tuple[Server, ...]:
    """Return everything that is a server at one time or another; of two limits the lower counts."""
    found: dict[tuple[str, int, str], Server] = {}
    for server in (each for servers in several for each in servers):
        key = (server.instance, server.port, server.model)
        limits = [each.at_once for each in (found.get(key), server) if each and each.at_once]
        found[key] = server.model_copy(update={"at_once": min(limits, default=None)})
    return tuple(found.values())


def fleet(inventory: Iterable[str], seen: Mapping[str, Fronted], known: Iterable[Fronted]) -> tuple[Fronted, ...]:
    """Return all GPU hosts of an inventory: as seen in this run or, for the others, as the router knows them.

    What the inventory does not have any more is dropped.
    """
    before = {each.name: each for each in known}
    found = (seen.get(name) or before.get(name) for name in inventory)
    return tuple(each for each in found if each is not None and each.servers)


def named(hosts: Iterable[Fronted], router: str) -> tuple[str, ...]:
    """Return the addresses that are names: a router has to look them up, once per change and not at every boot."""
    found = (host.reached_from(router) for host in hosts)
    return tuple(dict.fromkeys(each for each in found if each and not _literal(each)))


def _literal(address: str) -> bool:
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return False
    return True


def backends(hosts: Sequence[Fronted], router: str, addresses: Mapping[str, str]) -> tuple[Backend, ...]:
    """Return one backend per model that the router can reach; `addresses` maps names to what the router found."""
    models = sorted({server.model for host in hosts for server in host.servers})
    found = {model: _targets(hosts, model, router, addresses) for model in models}
    return tuple(Backend(name=f"model_{model}", model=model, targets=each) for model, each in found.items() if each)


def _targets(hosts: Sequence[Fronted], model: str, router: str, addresses: Mapping[str, str]) -> tuple[Target, ...]:
    return tuple(
        Target(
            name=f"{_plain(host.name)}:{server.instance}:{server.port}",
            instance=server.instance,
            address=addresses.get(address, address),
            port=server.port,
            state_port=host.state_port,
            at_once=server.at_once,
        )
        for host in hosts
        if (address := host.reached_from(router))
        for server in host.servers
        if server.model == model
    )


def _plain(name: str) -> str:
    """Write a host's name in the letters that HAProxy takes."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip("_")
