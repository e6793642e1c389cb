"""`rackhand diagnose`: why is this engine slow, late, or out of memory, and what to do about it."""

import argparse
from typing import Any

from rackhand.commands import seeing

DESCRIPTION = """\
Look for the reason why an engine generates slowly, answers late, runs out of memory or ended, and name what helps, with
the numbers behind it. Watch while there is load: an idle engine tells nothing about speed.
"""


def add_parser(subparsers: Any) -> None:
    """Add `diagnose` to the command line."""
    parser = subparsers.add_parser(
        "diagnose", help="say why engines are slow, late or out of memory, and what helps", description=DESCRIPTION
    )
    seeing.add_arguments(parser)
    parser.set_defaults(main=main)


def main(arguments: argparse.Namespace) -> int:
    """Judge everything that was named; return 0, 2 for a failure, 1 where something could not be looked at."""
    from rackhand.commands import findings
    from rackhand.diagnose.symptoms import DIAGNOSIS

    return findings.answer(arguments, DIAGNOSIS, "rackhand.diagnose/1", gate=False)
