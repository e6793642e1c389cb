"""`rackhand verify`: how healthy the GPUs of an inventory's hosts are, and what blocks. Changes nothing."""

import argparse
import sys
from typing import Any

GOOD, TROUBLE, BLOCKED = 0, 1, 2
DESCRIPTION = """\
Ask every host of an inventory how its GPUs are: driver, CUDA, kernel log, memory, links, condition. Each finding has a
code, a severity and the next step; settings health_block and health_ignore say which ones block. Nothing is changed.
"""
EPILOG = """\
examples:
  rackhand verify inventory/prod.py
  rackhand verify inventory/prod.py --limit rack1 --json

exit status: 0 nothing blocks, 2 a finding blocks, 1 a host could not be asked
"""


def add_parser(subparsers: Any) -> None:
    """Add `verify` to the command line."""
    parser = subparsers.add_parser(
        "verify",
        help="say how healthy the GPUs of hosts are; asks hosts, changes nothing",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("inventory", metavar="INVENTORY", help="inventory file, such as inventory/prod.py")
    add("--limit", action="append", default=[], metavar="HOST", help="only these hosts or groups; may be repeated")
    add("--all", action="store_true", help="list every host, also of a large fleet that is healthy")
    add("--json", action="store_true", help="print JSON (schema rackhand.verify/1)")
    parser.set_defaults(main=main)


def main(arguments: argparse.Namespace) -> int:
    """Ask and judge every host; return 0, 2 where something blocks, 1 for a host that could not be asked."""
    # pyinfra is loaded for hosts alone: it takes its time, and patches the sockets of this process.
    from rackhand import reach
    from rackhand.commands import show, verify_words
    from rackhand.commands.verify_json import to_json
    from rackhand.commands.verify_seen import look, standings
    from rackhand.health.host import UNHEALTHY
    from rackhand.terminal import Terminal, write

    hosts = standings(reach.ask(arguments.inventory, arguments.limit, look))
    if arguments.json:
        write(show.document(to_json(hosts)), sys.stdout)
    else:
        write(verify_words.text(hosts, Terminal.of(sys.stdout), everyone=arguments.all), sys.stdout)
    if any(host.problem for host in hosts) or not hosts:
        return TROUBLE
    return BLOCKED if any(host.status == UNHEALTHY for host in hosts) else GOOD
