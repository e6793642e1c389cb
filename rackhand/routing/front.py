"""What is wanted of one router: its settings and the two keys that it may hold. Read here, before hosts are asked."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import SecretStr

from rackhand import settings
from rackhand.settings import LOOPBACK, Settings

# What a router reads of an inventory; it serves no model itself.
READ = ("router_", "lease_", "preflight_", "report_", "serve_api_key_from")


@dataclass(frozen=True, kw_only=True)
class Front:
    """One router. `client_key` is what clients must send, `server_key` what the servers want; None where there is none.

    Without a client key the router passes on what clients send, and the servers judge it.
    """

    settings: Settings
    client_key: SecretStr | None
    server_key: SecretStr | None

    @property
    def open(self) -> bool:
        """Anybody who reaches the router could use the GPUs, unless the servers want a key."""
        return self.settings.router_bind not in LOOPBACK and self.client_key is None


def resolve(data: Mapping[str, Any], where: str) -> Front:
    """Check what one host's data says about its router and fetch its keys; raises RackhandError."""
    wished = settings.part(data, READ, where)
    return Front(
        settings=wished,
        client_key=settings.secret(wished.router_api_key_from, "router_api_key_from", where),
        server_key=settings.secret(wished.serve_api_key_from, "serve_api_key_from", where),
    )
