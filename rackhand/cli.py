"""`rackhand`: commands for people, beside pyinfra's own command line."""

import argparse
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any, NoReturn

from typing_extensions import override

from rackhand.commands import checklist, diagnose, fit, plan, report, status, verify
from rackhand.errors import RackhandError
from rackhand.lab import commands as lab

# Each has add_parser(subparsers); it sets the default `main`, which takes the arguments and returns the exit status.
COMMANDS = (fit, plan, status, verify, report, checklist, diagnose, lab)


class Parser(argparse.ArgumentParser):
    """A parser that leaves exit status 2 to refusals: a command line that makes no sense is an error like any other."""

    @override
    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        # A command says itself what it does not know: left to its parent, the line would name no command.
        known, rest = super().parse_known_args(args, namespace)
        if rest:
            self._refuse(f"unrecognized arguments: {' '.join(rest)}", self._near(rest))
        return known, rest

    @override
    def error(self, message: str) -> NoReturn:
        self._refuse(message)

    def _refuse(self, what: str, near: str = "") -> NoReturn:
        # No usage: that of some commands is eight lines, and this one would be lost below them.
        step = f"did you mean {near}? See" if near else "see"
        self.exit(1, f"{RackhandError('arguments', what, self.prog, f'{step} {self.prog} --help')}\n")

    def _near(self, rest: Sequence[str]) -> str:
        options = [word.partition("=")[0] for word in rest if word.startswith("-")]
        found = [near for word in options for near in get_close_matches(word, self._option_string_actions, 1)]
        return found[0] if found else ""


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
