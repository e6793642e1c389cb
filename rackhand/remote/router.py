"""A router: HAProxy from the distribution's package with a configuration of ours, changed without losing a request."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

from rackhand.remote import command, files, gpu, packager, server_states
from rackhand.remote.problem import Problem

PACKAGE = "haproxy"
PROGRAM = Path("/usr/sbin/haproxy")
OWN = Path("/etc/haproxy/haproxy.cfg")
UNIT = "haproxy.service"
DROP_IN = Path("/etc/systemd/system/haproxy.service.d/rackhand.conf")
SOCKET = "/run/haproxy/admin.sock"
CURRENT = "router/current"
SAVE = "router/server_states.py"
ANSWER_S = 60
# Longest wait for the process that a reload starts, in seconds.
RELOAD_S = 10
POLL_S = 0.1
# What HAProxy says of a question for a state that nobody answers.
NO_ANSWER = ("L4CON", "L4TOUT", "L7TOUT")


def look(root: str, names: list[str]) -> dict[str, Any]:
    """Say what this host is and what runs on it as a router, and the addresses of `names` as seen from here."""
    current = Path(root, CURRENT)
    return {
        "pci": gpu.pci(),
        "installed": PROGRAM.exists(),
        "foreign": not DROP_IN.exists() and _edited(),
        "files": {path.name: _digest(path) for path in sorted(current.glob("*"))},
        "unit": DROP_IN.read_text() if DROP_IN.exists() else "",
        "program": _digest(Path(root, SAVE)),
        "running": running(),
        "hosts": _known(current / "hosts.json"),
        "addresses": {name: _resolved(name) for name in names},
        "unheard": _unheard(),
    }


def _unheard() -> list[str]:
    """Name the servers that are in service although their hosts do not tell this router whether they drain."""
    try:
        rows = list(csv.DictReader(server_states.ask(SOCKET, "show stat").lstrip("# ").splitlines()))
    except OSError:
        return []
    up = [row for row in rows if (row.get("status") or "").startswith("UP")]
    return sorted({row["svname"] for row in up if row.get("agent_status") in NO_ANSWER})


def _known(record: Path) -> list[Any]:
    """Return what the router knows of GPU hosts; a record that nobody can read is none."""
    try:
        found = json.loads(record.read_text())
    except (OSError, ValueError):
        return []
    return found if isinstance(found, list) else []


def _digest(path: Path) -> str:
    return files.sha256(path) if path.is_file() else ""


def _edited() -> bool:
    """Tell whether somebody gave HAProxy a configuration: its file is not the package's."""
    if not OWN.exists():
        return False
    listed = _run(["dpkg-query", "--show", "--showformat", "${Conffiles}\n", PACKAGE])[1]
    digests = [line.split()[1] for line in listed.splitlines() if line.split()[:1] == [str(OWN)]]
    return hashlib.md5(OWN.read_bytes()).hexdigest() not in digests


def _resolved(name: str) -> str:
    """Return the address of a host, IPv4 where it has one; empty where this host does not know it."""
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except OSError:
        return ""
    return str(sorted(found, key=lambda each: each[0] != socket.AF_INET)[0][4][0])


def running() -> str:
    """Return the digest of the configuration that HAProxy runs with; empty when it does not run, or not with ours."""
    try:
        told = server_states.ask(SOCKET, "show info")
    except OSError:
        return ""
    words = next((line.split() for line in told.splitlines() if line.startswith("description:")), [])
    return words[2] if words[1:2] == ["rackhand"] and len(words) == 3 else ""


@command.alone("router")
def install(timeout_s: int) -> None:
    """Install the distribution's package."""
    packager.install([PACKAGE], "router", timeout_s)


def serve(root: str, digest: str, content: dict[str, dict[str, Any]], unit: str, program: str) -> None:
    """Run HAProxy with this configuration; one that it does not accept changes nothing."""
    base = Path(root, "router")
    place = base / digest
    shutil.rmtree(place, ignore_errors=True)
    base.mkdir(parents=True, exist_ok=True)
    for name, file in content.items():
        files.write(place / name, file["text"], file["mode"])
    _accepted(place)
    before = _target(base / "current")
    files.write(Path(root, SAVE), program)
    changed = files.write(DROP_IN, unit)
    files.link(base / "current", digest)
    if changed:
        _systemctl("daemon-reload")
    try:
        _take_over(digest)
    except Problem:
        _put_back(base, before)
        if digest != before:
            shutil.rmtree(place)
        raise
    for old in base.iterdir():
        if old.is_dir() and not old.is_symlink() and old.name not in (digest, before):
            shutil.rmtree(old)


def _accepted(place: Path) -> None:
    status, said = _run([str(PROGRAM), "-c", "-f", str(place / "haproxy.cfg")])
    if status:
        shutil.rmtree(place)
        lines = [line for line in said.splitlines() if "ALERT" in line]
        raise Problem(
            "router-config",
            "HAProxy does not accept its new configuration; it goes on with the one before",
            "correct the router_ settings that the lines below name, then run again",
            lines[-6:],
        )


def _take_over(digest: str) -> None:
    """Reload, or restart what does not run our configuration, and wait until a process with the new one answers."""
    _systemctl("enable", UNIT)
    since = time.time()
    _systemctl("reload" if running() else "restart", UNIT)
    deadline = time.monotonic() + RELOAD_S
    while running() != digest:
        if time.monotonic() > deadline:
            journal = _run(["journalctl", "--unit", UNIT, "--since", f"@{since:.0f}", "--output", "cat", "--no-pager"])
            raise Problem(
                "router-start",
                f"HAProxy did not take over its new configuration within {RELOAD_S} s",
                "see 'journalctl -u haproxy' on the host; a port that somebody else has is the usual reason",
                [line for line in journal[1].splitlines() if "ALERT" in line][-6:],
            )
        time.sleep(POLL_S)


def _put_back(base: Path, before: str) -> None:
    """Go back to the configuration before; without one HAProxy is left to its own."""
    if before and (base / before).is_dir():
        files.link(base / "current", before)
        _run(["systemctl", "reload-or-restart", UNIT])
        return
    (base / "current").unlink()
    DROP_IN.unlink()
    _run(["systemctl", "daemon-reload"])
    _run(["systemctl", "disable", "--now", UNIT])


def _target(link: Path) -> str:
    return link.readlink().name if link.is_symlink() else ""


def _systemctl(*arguments: str) -> None:
    status, said = _run(["systemctl", *arguments])
    if status:
        what = f"systemctl {' '.join(arguments)} failed"
        raise Problem("router-start", what, "run 'systemctl status haproxy' on the host", said.splitlines()[-3:])


def _run(arguments: list[str]) -> tuple[int, str]:
    """Run a command that answers soon; return its status and all it said."""
    try:
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=ANSWER_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return 1, str(error)
    return done.returncode, done.stdout + done.stderr
