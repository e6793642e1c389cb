"""Measure upgrades: seconds out of service, the way back after a failed gate, and a fleet of hundreds in one process.

Run as root in the checkout: `uv run python benchmarks/upgrade.py`. The practice hosts are its own and are removed.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import measuring, practice, rolling, upgrading
from benchmarks.measuring import spread


def main() -> None:
    """Measure what was chosen, print it, and remove everything."""
    options = _parser().parse_args()
    load = os.getloadavg()[0]
    found: dict[str, Any] = {}
    if options.what in ("hosts", "both"):
        with practice.fleet(options.dir) as world:
            found["hosts"] = upgrading.measure(world, options.hosts, options.repeat)
    if options.what in ("fleet", "both"):
        found["fleet"] = [run for size in options.fleet for run in rolling.measure(size, options.kind, options.start_s)]
    print(json.dumps({**measuring.machine(load), **found}) if options.json else page(load, options, found))


def page(load: float, options: argparse.Namespace, found: dict[str, Any]) -> str:
    """Return the figures as Markdown."""
    blocks = [measuring.place(load)]
    if "hosts" in found:
        rows = [[name, spread(values, 2), str(len(values))] for name, values in found["hosts"].items()]
        blocks.append(measuring.table(("practice hosts, stand-in engine", "median (least-most)", "samples"), rows))
    if "fleet" in found:
        blocks.append(_fleet(options, found["fleet"]))
    return "\n\n".join(blocks)


def _fleet(options: argparse.Namespace, runs: Sequence[rolling.Figures]) -> str:
    rows = [run.row() for run in runs]
    return f"{options.kind}, engine start {options.start_s:g} s\n\n{measuring.table(rolling.COLUMNS, rows)}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("what", nargs="?", choices=("hosts", "fleet", "both"), default="both")
    parser.add_argument("--hosts", type=int, default=3, help="practice hosts to upgrade")
    parser.add_argument("--repeat", type=int, default=3, help="upgrades and failed upgrades")
    parser.add_argument("--fleet", type=int, nargs="+", default=[200, 500], help="sizes of the simulated fleet")
    parser.add_argument("--kind", default="2xRTX4090", help="kind of the simulated hosts (tests/hosts_at_work.py)")
    parser.add_argument("--start-s", type=float, default=5.0, help="start of a simulated engine, in seconds")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.add_argument("--dir", default=None, help="where to put the fleet (default: for temporary files)")
    return parser


if __name__ == "__main__":
    main()
