"""The router: HAProxy in front of all servers of the inventory, on the hosts of its group `routers`.

It knows all that may serve before the first host has its turn, and hosts tell it themselves when they drain.
"""

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

from pyinfra.api import State
from pyinfra.context import ctx_state

from rackhand.errors import RackhandError
from rackhand.frozen import validated
from rackhand.operations import Change, current_run
from rackhand.outcome import Problem
from rackhand.remote.gate import EVERYWHERE
from rackhand.render import ROOT
from rackhand.routing.facts import RouterFacts
from rackhand.routing.front import Front
from rackhand.routing.render import Rendered, render
from rackhand.routing.servers import Fronted, Server, fleet, named, of_plan, of_release, union
from rackhand.run import GPU, HostRun
from rackhand.session import inner_s

INSTALL_S = 900
SERVE_S = 120
# Longest wait for a server to be in service for the router, in seconds: its host has let it in already.
SEEN_S = 15
Servers = Callable[[HostRun], tuple[Server, ...]]


def ready(host: HostRun) -> Change | None:
    """Know every server that runs or is to run, before the first host has its turn."""
    if not host.live:
        return None
    facts, rendered = _look(host, _may_serve)
    _warn_unheard(host, facts)
    return _change(host, facts, rendered, proves=False)


def settle(host: HostRun) -> Change | None:
    """Know exactly what serves after the turns, and prove with streamed tokens that requests get through."""
    if not host.live:
        return None
    facts, rendered = _look(host, _serves)
    _warn_unheard(host, facts)
    change = _change(host, facts, rendered, proves=True)
    if change is None:
        _prove(host, rendered)
    return change


def _warn_unheard(host: HostRun, facts: RouterFacts) -> None:
    """Say of which servers a drain would not be noticed, before one of them loses requests for it."""
    if facts.unheard:
        what = f"{', '.join(facts.unheard)} do not say here whether they drain: requests can be lost in their turns"
        step = "let the router reach router_state_port of these hosts (9105 by default), then run again"
        problem = Problem(code="router-unheard", what=what, where=host.name, next_step=step)
        host.warnings += [problem] if problem not in host.warnings else []


def _may_serve(each: HostRun) -> tuple[Server, ...]:
    before = of_release(each.before) if each.before else ()
    if each.target is not None:
        return union(before, of_release(each.target))
    return union(before, of_plan(each.plan, each.intent.settings.model_name) if each.plan else ())


def _serves(each: HostRun) -> tuple[Server, ...]:
    """Return what serves on a host now; where that is not known, everything that may."""
    known = {release.id: release for release in (each.before, each.target) if release}
    if each.serving is not None:
        return of_release(known[each.serving]) if each.serving in known else ()
    if each.order is not None:
        return _may_serve(each)
    now = each.before if each.problems or each.refusal else each.target
    return of_release(now) if now else ()


def _front(host: HostRun) -> Front:
    if host.front is None:
        raise RackhandError("internal", "a router's step ran on another host", host.name, "report this")
    return host.front


def _look(host: HostRun, servers: Servers) -> tuple[RouterFacts, Rendered]:
    """Ask the router what it runs with, and render what it should."""
    real: State = ctx_state.get()  # type: ignore[no-untyped-call]
    seen = {each.name: _fronted(real, each, servers(each)) for each in current_run().hosts.values() if _served(each)}
    names = [each.name for each in real.inventory]
    facts = _facts(host, named(seen.values(), host.name))
    hosts = fleet(names, seen, facts.hosts)
    lost = [name for name in named(hosts, host.name) if name not in facts.addresses]
    facts = _facts(host, named(hosts, host.name)) if lost else facts
    unknown = [name for name, address in facts.addresses.items() if not address]
    if unknown:
        what = f"the router does not find {', '.join(unknown)}"
        raise host.error("router-address", what, "set router_address of these GPU hosts to addresses it reaches")
    return facts, render(_front(host), hosts, host.name, facts.addresses)


def _served(each: HostRun) -> bool:
    """Tell whether this run knows what a host serves; of the others the router's own record is the better one."""
    return each.role == GPU and each.wishes is not None and (each.plan is not None or each.before is not None)


def _fronted(real: State, each: HostRun, servers: tuple[Server, ...]) -> Fronted:
    settings = each.intent.settings
    data = real.inventory.get_host(each.name).data
    address = settings.router_address or data.get("ssh_hostname") or each.name.rpartition("/")[2]
    return Fronted(
        name=each.name,
        address=str(address),
        listens=settings.serve_host,
        state_port=settings.router_state_port,
        servers=servers,
    )


def _facts(host: HostRun, names: tuple[str, ...]) -> RouterFacts:
    return validated(RouterFacts, host.call("router.look", root=ROOT, names=list(names)), host.name)


def _change(host: HostRun, facts: RouterFacts, rendered: Rendered, *, proves: bool) -> Change | None:
    if facts.running == rendered.digest and _intact(facts, rendered):
        return None
    wished = _front(host).settings

    def apply() -> None:
        if not facts.installed:
            with host.waiting("HAProxy to be installed", INSTALL_S, log="router"):
                host.call("router.install", INSTALL_S, timeout_s=inner_s(INSTALL_S))
        content = {name: {"text": file.text, "mode": file.mode} for name, file in rendered.files.items()}
        more = {"unit": rendered.unit, "program": rendered.program}
        host.call("router.serve", SERVE_S, root=ROOT, digest=rendered.digest, content=content, **more)
        host.note("router", config=rendered.digest, models=list(rendered.models), servers=rendered.servers)
        if proves:
            _prove(host, rendered)

    models = f"{', '.join(rendered.models) or 'no model'} ({rendered.servers} servers)"
    summary = f"requests on {wished.router_bind}:{wished.router_port} go to {models}"
    return Change(summary=summary if facts.installed else f"install HAProxy, {summary}", apply=apply)


def _intact(facts: RouterFacts, rendered: Rendered) -> bool:
    files = {name: _sha256(file.text) for name, file in rendered.files.items()}
    return (facts.files, facts.unit, facts.program) == (files, rendered.unit, _sha256(rendered.program))


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _prove(host: HostRun, rendered: Rendered) -> None:
    """Get tokens through the router, as clients do."""
    if not rendered.models:
        return
    limit_s = host.intent.settings.gate_request_timeout_s
    with host.waiting("tokens through the router", SEEN_S + limit_s):
        models = list(rendered.models)
        within_s = SEEN_S + len(models) * limit_s + 60
        host.call("front_door.prove", within_s, door=_door(host), models=models, wait_s=SEEN_S, timeout_s=limit_s)


def _door(host: HostRun) -> Mapping[str, Any]:
    front = _front(host)
    wished, bind = front.settings, front.settings.router_bind
    theirs = (each.wishes.api_key for each in current_run().hosts.values() if each.wishes)
    key = front.client_key or front.server_key or next((each for each in theirs if each), None)
    return {
        "host": EVERYWHERE.get(bind, bind),
        "port": wished.router_port,
        "tls": wished.router_tls_certificate is not None,
        "key": key.get_secret_value() if key else "",
    }
