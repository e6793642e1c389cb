"""Save the state of HAProxy's servers before a reload or a stop: drained ones stay drained, new ones begin as down.

A program of its own on a router: haproxy.service runs it, whoever asks for the reload. HAProxy itself would give a
server that it has never heard of to clients until its first check fails, and would take an old port for the new one.
"""

from __future__ import annotations

import socket
import sys
from pathlib import Path

ANSWER_S = 5
HEAD = "1"
COLUMNS = (
    "# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight "
    "srv_time_since_last_change srv_check_status srv_check_result srv_check_health srv_check_state srv_agent_state "
    "bk_f_forced_id srv_f_forced_id srv_fqdn srv_port srvrecord srv_use_ssl srv_check_port srv_check_addr "
    "srv_agent_addr srv_agent_port"
)
# Down until its first check, which is configured and enabled, as its agent is.
NEW = "0 {backend} 0 {name} {address} 0 0 1 1 0 1 1 0 6 22 0 0 - {port} - 0 0 - - {agent}"


def ask(path: str, command: str) -> str:
    """Say one command to HAProxy at its socket and return the answer; raises OSError when nobody is there."""
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(ANSWER_S)
        line.connect(path)
        line.sendall(command.encode() + b"\n")
        parts = []
        while part := line.recv(65_536):
            parts.append(part)
    return b"".join(parts).decode(errors="replace")


def merged(seen: str, servers: str) -> str:
    """Return the state file for `servers` (lines of backend, name, address, port, agent's port) from what was seen."""
    known = {}
    for line in seen.splitlines():
        words = line.split()
        if len(words) > 18 and not line.startswith("#"):
            known[words[1], words[3], words[4], words[18]] = line
    lines = []
    for backend, name, address, port, agent in (line.split() for line in servers.splitlines()):
        new = NEW.format(backend=backend, name=name, address=address, port=port, agent=agent)
        lines.append(known.get((backend, name, address, port), new))
    return "\n".join([HEAD, COLUMNS, *lines, ""])


def main(path: str, servers: str, target: str) -> None:
    """Write the state file; where HAProxy does not run, what was saved last counts."""
    file = Path(target)
    try:
        seen = ask(path, "show servers state")
    except OSError:
        seen = file.read_text() if file.exists() else ""
    draft = file.with_name(f".{file.name}.new")
    draft.write_text(merged(seen, Path(servers).read_text()))
    draft.replace(file)


if __name__ == "__main__":
    main(*sys.argv[1:4])
