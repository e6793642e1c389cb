"""`rackhand lab`: the practice fleet for people."""

import argparse
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rackhand.errors import RackhandError

if TYPE_CHECKING:
    from rackhand.lab.fleet import Fleet
    from rackhand.lab.host import LabHost

CHECKOUT = Path(__file__).resolve().parents[2]
COLUMNS = ("name", "personality", "address", "state", "boot_id", "uptime_s")


def add_parser(subparsers: Any) -> None:
    """Add `lab` with its verbs to the command line."""
    lab = subparsers.add_parser("lab", help="boot, list, enter and remove practice hosts")
    verbs = lab.add_subparsers(dest="verb", required=True, metavar="VERB")
    up = verbs.add_parser("up", help="boot hosts and wait until SSH answers")
    up.add_argument("names", nargs="*", metavar="NAME", help="default: the hosts there are, or one and two")
    up.add_argument("--personality", help="what hardware a new host pretends to have")
    up.add_argument("--suite", default="bookworm", help="Debian or Ubuntu release of a new host (default: bookworm)")
    status = verbs.add_parser("status", help="list the hosts")
    status.add_argument("--json", action="store_true", help="print JSON")
    ssh = verbs.add_parser("ssh", help="enter a host, or run a command on it")
    ssh.add_argument("name", metavar="NAME")
    ssh.add_argument("command", nargs=argparse.REMAINDER, metavar="CMD")
    cut = verbs.add_parser("power-cut", help="take a host's power away; `up NAME` gives it back")
    cut.add_argument("name", metavar="NAME")
    down = verbs.add_parser("down", help="remove everything the lab made, or some hosts only")
    down.add_argument("names", nargs="*", metavar="NAME")
    down.add_argument("--purge", action="store_true", help="remove the caches shared by all checkouts, too")
    lab.set_defaults(main=main)


def main(arguments: argparse.Namespace) -> int:
    """Do what the parsed command line says; return the exit status."""
    # Here, so that the other commands start without it.
    from rackhand.lab.fleet import Fleet

    fleet = Fleet.of(CHECKOUT)
    match arguments.verb:
        case "up":
            return _up(fleet, arguments)
        case "status":
            return _status(fleet, as_json=arguments.json)
        case "ssh":
            return _ssh(fleet.host(arguments.name), arguments.command)
        case "power-cut":
            fleet.host(arguments.name).power_cut()
            return 0
        case _:
            return _down(fleet, arguments.names, purge=arguments.purge)


def _up(fleet: "Fleet", arguments: argparse.Namespace) -> int:
    there = {host.name: host for host in fleet.status()}
    names = arguments.names or list(there) or ["one", "two"]
    hosts = [there.get(name) or fleet.up(name, arguments.personality, arguments.suite) for name in names]
    for host in hosts:
        host.power_on()
    for host in hosts:
        host.wait_ssh()
    return _status(fleet, as_json=False)


def _status(fleet: "Fleet", *, as_json: bool) -> int:
    rows = [_row(host) for host in fleet.status()]
    if as_json:
        print(json.dumps(rows, indent=2))
        return 0
    if not rows:
        print("no practice hosts; boot some: rackhand lab up")
        return 0
    table = [[name.upper() for name in COLUMNS], *([_cell(row[name]) for name in COLUMNS] for row in rows)]
    widths = [max(len(line[column]) for line in table) for column in range(len(COLUMNS))]
    for line in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    return 0


def _row(host: "LabHost") -> dict[str, object]:
    uptime_s = host.uptime_s
    return {
        "name": host.name,
        "personality": host.facts["personality"],
        "suite": host.facts["suite"],
        "address": host.address,
        "state": host.state,
        "boot_id": host.boot_id,
        "uptime_s": None if uptime_s is None else round(uptime_s),
    }


def _cell(value: object) -> str:
    return "-" if value is None else str(value)


def _ssh(host: "LabHost", command: Sequence[str]) -> int:
    """Become ssh, so that terminal, signals and exit status are its own."""
    options = [f"UserKnownHostsFile={host.known_hosts}", "StrictHostKeyChecking=yes", "IdentitiesOnly=yes"]
    given = [word for option in options for word in ("-o", option)]
    argv = ["ssh", "-i", str(host.key), *given, f"root@{host.address}", *command]
    os.execvp("ssh", argv)


def _down(fleet: "Fleet", names: Sequence[str], *, purge: bool) -> int:
    for name in names:
        fleet.remove(name)
    if not names:
        fleet.down()
    if purge:
        _purge()
    return 0


def _purge() -> None:
    """Remove the caches, unless hosts of another checkout stand on their images."""
    from rackhand.lab import places, processes

    if processes.with_argument("--directory=/"):
        raise RackhandError("lab.busy", "practice hosts are running on it", str(places.cache()), "stop them first")
    shutil.rmtree(places.cache(), ignore_errors=True)
