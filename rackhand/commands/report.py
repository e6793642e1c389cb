"""`rackhand report`: show the report of an earlier run again, as a table or as a page."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from rackhand.errors import RackhandError

DESCRIPTION = """\
Show what a run did, from the JSON file that it wrote into report_dir: as the table of its end, or as an HTML page.
"""


def add_parser(subparsers: Any) -> None:
    """Add `report` to the command line."""
    parser = subparsers.add_parser(
        "report", help="show the report of an earlier run, as a table or a page", description=DESCRIPTION
    )
    parser.add_argument("file", metavar="FILE.json", type=Path, help="the report, such as reports/latest.json")
    parser.add_argument("--html", metavar="OUT", type=Path, help="write the page to this file instead of the table")
    parser.set_defaults(main=main)


def main(arguments: argparse.Namespace) -> int:
    """Print the table, or write the page; 0 whatever the run came to."""
    from rackhand import report
    from rackhand.report_json import from_json
    from rackhand.terminal import Terminal, write

    run = from_json(_read(arguments.file), str(arguments.file))
    if arguments.html:
        try:
            report.write_page(run, arguments.html)
        except OSError as error:
            what = f"the page cannot be written: {error.strerror}"
            raise RackhandError("report", what, str(arguments.html), "choose a place that you can write") from None
        return 0
    terminal = Terminal.of(sys.stdout)
    text = report.plan_text(run) if run.dry else report.table(run, terminal.width, terminal.colour)
    shown = text if terminal.unicode else "\n".join(terminal.say(line) for line in text.splitlines())
    write(shown, sys.stdout)
    return 0


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no JSON"
        what = f"the report cannot be read: {reason}"
        raise RackhandError("unreadable", what, str(path), "name a file that a run wrote into report_dir") from None
