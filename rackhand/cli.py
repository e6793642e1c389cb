"""`rackhand`: commands for people, beside pyinfra's own command line."""

import argparse
import sys
from typing import NoReturn

from typing_extensions import override

from rackhand.commands import checklist, diagnose, fit, plan, report, status, verify
from rackhand.errors import RackhandError
from rackhand.lab import commands as lab

# Each has add_parser(subparsers); it sets the default `main`, which takes the arguments and returns the exit status.
COMMANDS = (fit, plan, status, verify, report, checklist, diagnose, lab)


class Parser(argparse.ArgumentParser):
    """A parser that leaves exit status 2 to refusals: a command line that makes no sense is an error like any other."""

    @override
    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(1, f"{self.prog}: {message}\n")


def main(argv: list[str] | None = None) -> int:
    """Run one command; a RackhandError becomes one line (and quoted evidence) on stderr and exit status 1."""
    parser = Parser(prog="rackhand", description="Turn bare GPU hosts into healthy vLLM servers.")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add_parser(subparsers)
    arguments = parser.parse_args(argv)
    try:
        return int(arguments.main(arguments))
    except RackhandError as error:
        for line in error.evidence:
            print(f"  | {line}", file=sys.stderr)
        print(f"rackhand: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
