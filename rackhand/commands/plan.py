"""`rackhand plan`: what a deploy would make of every host of an inventory, and why. Hosts are asked, never changed."""

import argparse
import sys
from typing import Any

PLANNED, TROUBLE, REFUSED = 0, 1, 2
DESCRIPTION = """\
Read an inventory as a deploy does, ask its hosts over SSH what they are, and plan each: instances, GPUs, the memory
bill, the reasons. Nothing is changed anywhere.
"""
EPILOG = """\
examples:
  rackhand plan inventory/prod.py
  rackhand plan inventory/prod.py --limit rack1 --json

exit status: 0 every host has a plan, 2 a host was refused, 1 a host could not be asked or a setting is wrong
"""


def add_parser(subparsers: Any) -> None:
    """Add `plan` to the command line."""
    parser = subparsers.add_parser(
        "plan",
        help="say what a deploy would make of each host, and why; asks hosts, changes nothing",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("inventory", metavar="INVENTORY", help="inventory file, such as inventory/prod.py")
    parser.add_argument("--limit", action="append", default=[], metavar="HOST", help="only these hosts or groups")
    parser.add_argument("--json", action="store_true", help="print JSON (schema rackhand.plan/1)")
    parser.set_defaults(main=main)


def main(arguments: argparse.Namespace) -> int:
    """Plan every host; return 0, 2 for a refusal, 1 for trouble, which counts more."""
    # pyinfra is loaded for hosts alone: it takes its time, and patches the sockets of this process.
    from rackhand import reach
    from rackhand.commands import planning, show
    from rackhand.commands.fleet import text, to_json
    from rackhand.terminal import Terminal, write

    hosts = planning.verdicts(reach.ask(arguments.inventory, arguments.limit, planning.consider))
    write(show.document(to_json(hosts)) if arguments.json else text(hosts, Terminal.of(sys.stdout)), sys.stdout)
    if any(host.problem for host in hosts):
        return TROUBLE
    return PLANNED if all(host.answer and host.answer.fits for host in hosts) else REFUSED
