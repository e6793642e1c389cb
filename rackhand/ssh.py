"""Tune a paramiko connection: no Nagle delay (42 ms per command), keepalives, and an end to waiting for a dead peer."""

import socket

from pyinfra.api import Host

CHANNEL_TIMEOUT_S = 60
KEEPALIVE_S = 15
DEAD_PEER_MS = 60_000


def tune(host: Host) -> None:
    """Set socket and transport options; a connector without SSH is left alone."""
    client = getattr(host.connector, "client", None)
    transport = client.get_transport() if client else None
    if transport is None:
        return
    transport.channel_timeout = CHANNEL_TIMEOUT_S
    transport.set_keepalive(KEEPALIVE_S)
    if isinstance(transport.sock, socket.socket):  # a Channel when a jump host is used
        transport.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        transport.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, DEAD_PEER_MS)
