"""Measure the deploy on two practice hosts: bare, again without a change, and with one setting edited.

Run as root in the checkout: `uv run python benchmarks/deploy.py`. The fleet is its own and is removed at the end.
"""

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import measuring
from benchmarks.measuring import CHECKOUT, Spent
from rackhand.lab import wheels
from rackhand.lab.fleet import Fleet

# The hosts of inventory/lab.py.
HOSTS = {"rack1": "1xH100", "rack2": "2xRTX4090"}
STANDIN_VERSION = "0.32.0"
EDIT = ("--data", "serve_max_model_len=200")
REPEATS = 3
COLUMNS = (
    "run",
    "wall, s",
    "of which vLLM's own start, s",
    "controller CPU, s",
    "SSH commands per host",
    "sessions that sshd saw",
    "hosts changed",
)


@dataclass(frozen=True, kw_only=True)
class Figures:
    """One run; CPU is that of pyinfra and all it waited for on this machine, counts are per host, in order of name."""

    run: str
    wall_s: float
    engine_start_s: float
    cpu_s: float
    commands: tuple[int, ...]
    sessions: tuple[int, ...]
    changed: int

    def row(self) -> list[str]:
        """Return the cells of the table."""
        engine = f"{self.engine_start_s:.1f}" if self.engine_start_s else "-"
        counts = [" and ".join(map(str, counts)) for counts in (self.commands, self.sessions)]
        return [self.run, f"{self.wall_s:.1f}", engine, f"{self.cpu_s:.1f}", *counts, str(self.changed)]


@dataclass(frozen=True, kw_only=True)
class Bench:
    """A fleet of its own below `directory`, and the data that chooses the engine."""

    directory: Path
    fleet: Fleet
    engine: str

    def measure(self, run: str, *arguments: str) -> Figures:
        """Run the deploy once and return its figures; end this program when it fails."""
        before = self.sessions()
        spent = self._deploy(run, arguments)
        report = json.loads((self.directory / "reports" / "latest.json").read_text())
        hosts = report["hosts"]
        starts = [instance["ready_s"] or 0.0 for host in hosts for instance in host["instances"]]
        return Figures(
            run=run,
            wall_s=round(spent.wall_s, 1),
            engine_start_s=round(max(starts), 1),
            cpu_s=round(spent.cpu_s, 1),
            commands=tuple(host["ssh_commands"] for host in hosts),
            sessions=tuple(after - was for after, was in zip(self.sessions(), before, strict=True)),
            changed=sum(host["changed"] for host in hosts),
        )

    def sessions(self) -> tuple[int, ...]:
        """Count from each host's own journal the sessions that its sshd ever started; 0 where there is no host."""
        there = {host.name: host for host in self.fleet.status()}
        return tuple(measuring.heard(there[name]) if name in there else 0 for name in sorted(HOSTS))

    def bare_hosts(self) -> None:
        """Make both hosts anew and boot them."""
        for host in self.fleet.status():
            self.fleet.remove(host.name)
        for host in [self.fleet.up(name, personality) for name, personality in HOSTS.items()]:
            host.wait_ssh()

    def _deploy(self, run: str, arguments: Sequence[str]) -> Spent:
        data = (f"report_dir={self.directory / 'reports'}", *self._engine())
        given = [word for item in data for word in ("--data", item)]
        pyinfra = Path(sys.executable).with_name("pyinfra")
        command = [str(pyinfra), "inventory/lab.py", "deploy.py", "-y", *given, *arguments]
        log = self.directory / f"{run.replace(' ', '-')}.log"
        return measuring.require(measuring.spend(command, log), log, f"the run '{run}'")

    def _engine(self) -> Iterator[str]:
        if self.engine == "standin":
            requirements = self.directory / "requirements.txt"
            requirements.write_text(wheels.requirements(STANDIN_VERSION))
            yield from (f"engine_version={STANDIN_VERSION}", f"engine_requirements={requirements}")


def main() -> None:
    """Measure, print, and remove everything."""
    options = _options()
    directory = Path(tempfile.mkdtemp(prefix="rackhand-bench-", dir=options.dir))
    os.environ["RACKHAND_LAB_DIR"] = str(directory / "lab")
    if options.empty_caches:
        os.environ["RACKHAND_LAB_CACHE"] = str(directory / "cache")
    bench = Bench(directory=directory, fleet=Fleet.of(CHECKOUT), engine=options.engine)
    try:
        runs = []
        for figures in scenarios(bench, options.empty_caches):
            print(f"{figures.run}: {figures.wall_s} s", file=sys.stderr, flush=True)
            runs.append(figures)
    finally:
        bench.fleet.down()
        shutil.rmtree(directory, ignore_errors=True)
    about = {**measuring.machine(options.load), "engine": options.engine, "runs": [asdict(run) for run in runs]}
    print(json.dumps(about) if options.json else page(options, runs))


def scenarios(bench: Bench, empty_caches: bool) -> Iterator[Figures]:
    """Run the four scenarios in an order in which each finds what it needs."""
    yield bench.measure("cold, empty caches" if empty_caches else "cold, no fleet yet")
    bench.bare_hosts()
    yield bench.measure("warm, bare hosts")
    yield middle([bench.measure("nothing to do") for _ in range(REPEATS)])
    yield bench.measure("one setting edited", *EDIT)


def middle(runs: Sequence[Figures]) -> Figures:
    """Return the run with the median wall time."""
    median = statistics.median_low(run.wall_s for run in runs)
    return next(run for run in runs if run.wall_s == median)


def page(options: argparse.Namespace, runs: Sequence[Figures]) -> str:
    """Return the figures as Markdown."""
    rows = measuring.table(COLUMNS, [run.row() for run in runs])
    return f"{measuring.place(options.load)}, engine: {options.engine}\n\n{rows}"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--engine", choices=("standin", "real"), default="standin", help="stand-in or real vLLM for CPU"
    )
    parser.add_argument("--empty-caches", action="store_true", help="begin without base image and downloads")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a Markdown table")
    parser.add_argument(
        "--dir", default=None, help="where to put the fleet (default: the directory for temporary files)"
    )
    parser.set_defaults(load=os.getloadavg()[0])
    return parser.parse_args()


if __name__ == "__main__":
    main()
