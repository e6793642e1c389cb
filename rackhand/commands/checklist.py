"""`rackhand checklist`: is this engine ready for production, point by point, with the number behind each."""

import argparse
from typing import Any

from rackhand.commands import seeing

DESCRIPTION = """\
Go through the checklist before production. Each point passes, warns, fails or does not apply, with the number behind
it. Hosts of an inventory are also asked for five tokens, as a deploy does.
"""


def add_parser(subparsers: Any) -> None:
    """Add `checklist` to the command line."""
    parser = subparsers.add_parser(
        "checklist", help="check whether running engines are ready for production", description=DESCRIPTION
    )
    seeing.add_arguments(parser)
    parser.set_defaults(main=main)


def main(arguments: argparse.Namespace) -> int:
    """Judge everything that was named; return 0, 2 where a point failed, 1 where something could not be looked at."""
    from rackhand.commands import findings
    from rackhand.diagnose.checklist import CHECKLIST

    return findings.answer(arguments, CHECKLIST, "rackhand.checklist/1", gate=True)
