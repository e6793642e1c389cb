"""What keeps a router from reaching its servers, or lets anybody reach them: said before any host changes. Pure."""

from collections.abc import Iterator, Mapping, Sequence

from pydantic import SecretStr

from rackhand.outcome import Problem
from rackhand.routing.front import Front
from rackhand.setting_conflicts import LOOPBACK


def hidden(host: str, listens: str, routers: Sequence[str]) -> Problem | None:
    """Refuse a GPU host whose servers only listen to itself although other hosts are to send them requests."""
    others = [name for name in routers if name != host]
    if listens not in LOOPBACK or not others:
        return None
    return Problem(
        code="serve-loopback",
        what=f"its servers listen on {listens}, where the router {others[0]} cannot reach them",
        where=host,
        next_step="set serve_host to an address that routers reach, or '0.0.0.0', and serve_api_key_from with it",
    )


def keys(router: str, front: Front, servers: Mapping[str, SecretStr | None]) -> Iterator[Problem]:
    """Yield what is wrong with the keys of a router in front of these GPU hosts (name → key of its servers)."""
    without = next((name for name, key in servers.items() if key is None), None)
    other = next((name for name, key in servers.items() if key is not None and key != front.server_key), None)
    if front.open and without is not None:
        yield Problem(
            code="router-open",
            what=f"anybody could use the GPUs of {without}: neither the router nor its servers want a key",
            where=router,
            next_step="set router_api_key_from or serve_api_key_from, or router_bind to '127.0.0.1'",
        )
    if front.client_key is not None and other is not None:
        yield Problem(
            code="router-keys",
            what=f"the router has a key of its own for clients and does not know the key of {other}'s servers",
            where=router,
            next_step="set the same serve_api_key_from for routers and GPU hosts, in group_data/all.py",
        )
