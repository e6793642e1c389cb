"""`rackhand status`: how the hosts of an inventory stand, and what is not as it was deployed. Changes nothing."""

import argparse
import sys
from typing import Any

GOOD, TROUBLE, DRIFT = 0, 1, 2
PROBE_S = 30
DESCRIPTION = """\
Ask every host of an inventory what was deployed and what runs, and name everything that is not as it was left, with the
next step. Each instance is asked for five tokens. Nothing is changed anywhere.
"""
EPILOG = """\
examples:
  rackhand status inventory/prod.py
  rackhand status inventory/prod.py --limit rack1 --json

exit status: 0 all serve as deployed, 2 something drifted or does not serve, 1 a host could not be asked
"""


def add_parser(subparsers: Any) -> None:
    """Add `status` to the command line."""
    parser = subparsers.add_parser(
        "status",
        help="say how hosts stand and what is not as it was deployed; asks hosts, changes nothing",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("inventory", metavar="INVENTORY", help="inventory file, such as inventory/prod.py")
    add("--limit", action="append", default=[], metavar="HOST", help="only these hosts or groups; may be repeated")
    add("--all", action="store_true", help="list every host, also of a large fleet that is well")
    add("--no-probe", action="store_true", help="ask no instance for five tokens")
    add("--json", action="store_true", help="print JSON (schema rackhand.status/1)")
    parser.set_defaults(main=main)


def main(arguments: argparse.Namespace) -> int:
    """Ask and judge every host; return 0, 2 for a drift, 1 for a host that could not be asked, which counts more."""
    # pyinfra is loaded for hosts alone: it takes its time, and patches the sockets of this process.
    from rackhand import reach
    from rackhand.commands import show, status_words
    from rackhand.commands.status_json import to_json
    from rackhand.commands.status_seen import look, standings
    from rackhand.terminal import Terminal, write

    probe_s = None if arguments.no_probe else PROBE_S
    hosts = standings(reach.ask(arguments.inventory, arguments.limit, lambda session: look(session, probe_s)))
    if arguments.json:
        write(show.document(to_json(hosts)), sys.stdout)
    else:
        write(status_words.text(hosts, Terminal.of(sys.stdout), everyone=arguments.all), sys.stdout)
    if any(host.problem for host in hosts):
        return TROUBLE
    return GOOD if hosts and all(host.status == "good" for host in hosts) else DRIFT
