"""Plan and roll hundreds of simulated hosts with the true deploy, and say what that took of this machine."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks import measuring
from benchmarks.answering import PREFIX, SOCKET
from benchmarks.measuring import CHECKOUT
from rackhand.lab import wheels

OLD, NEW = "0.31.0", "0.32.0"
MODEL = "llama-3.1-8b-instruct"
COLUMNS = ("hosts", "run", "wall, s", "CPU, s", "CPU per host, ms", "peak memory, MiB", "commands per host", "waves")
ENTRY_POINT = "[pyinfra.connectors]\nsimulated = benchmarks.answering:SimulatedConnector\n"
METADATA = "Metadata-Version: 2.1\nName: rackhand-simulated\nVersion: 0\n"


@dataclass(frozen=True, kw_only=True)
class Figures:
    """One run over the whole fleet in one process; commands are the median host's."""

    hosts: int
    run: str
    wall_s: float
    cpu_s: float
    peak_mib: int
    commands: int
    waves: tuple[int, ...]

    def row(self) -> list[str]:
        """Return the cells of the table."""
        per_host = f"{1000 * self.cpu_s / self.hosts:.0f}"
        waves = " + ".join(map(str, self.waves)) or "-"
        times = [f"{self.wall_s:.1f}", f"{self.cpu_s:.1f}", per_host]
        return [str(self.hosts), self.run, *times, str(self.peak_mib), str(self.commands), waves]


def measure(size: int, kind: str, start_s: float) -> list[Figures]:
    """Deploy to bare hosts, find nothing to do, look at an upgrade without doing it, and do it."""
    with tempfile.TemporaryDirectory(prefix="rhb-") as place, _simulation(Path(place), kind, start_s) as environment:
        fleet = _Fleet(size, Path(place), environment)
        return [
            fleet.run("first deploy", OLD, "-y"),
            fleet.run("nothing to do", OLD, "-y"),
            fleet.run("upgrade, planned only", NEW, "--dry"),
            fleet.run("upgrade, rolled", NEW, "-y"),
        ]


class _Fleet:
    def __init__(self, size: int, place: Path, environment: Mapping[str, str]) -> None:
        self.size, self.place, self.environment = size, place, environment

    def run(self, name: str, version: str, *arguments: str) -> Figures:
        """Run the deploy over all hosts; end this program when it fails."""
        inventory, log = self.place / "inventory.py", self.place / "run.log"
        inventory.write_text(f"simulated = ({[f'{PREFIX}{self.size}']!r}, {self._data(version)!r})\n")
        latest = self.place / "reports" / "latest.json"
        latest.unlink(missing_ok=True)
        pyinfra = str(Path(sys.executable).with_name("pyinfra"))
        spent = measuring.spend([pyinfra, str(inventory), "deploy.py", *arguments], log, self.environment)
        measuring.require(spent, log, f"'{name}' of {self.size} simulated hosts")
        report = json.loads(latest.read_text()) if latest.exists() else {"hosts": []}
        figures = Figures(
            hosts=self.size,
            run=name,
            wall_s=spent.wall_s,
            cpu_s=spent.cpu_s,
            peak_mib=spent.peak_mib,
            commands=round(statistics.median([host["ssh_commands"] for host in report["hosts"]] or [1])),
            waves=tuple(len(wave["hosts"]) for wave in report.get("waves", ())),
        )
        print(f"{asdict(figures)}", file=sys.stderr, flush=True)
        return figures

    def _data(self, version: str) -> dict[str, Any]:
        requirements = self.place / f"requirements-{version}.txt"
        requirements.write_text(wheels.requirements(version))
        return {
            "model_catalogue": MODEL,
            "model_name": "llama",
            "engine_version": version,
            "engine_requirements": str(requirements),
            "serve_max_model_len": 8192,
            "report_dir": str(self.place / "reports"),
        }


@contextmanager
def _simulation(place: Path, kind: str, start_s: float) -> Iterator[dict[str, str]]:
    """Run the simulation beside this program; yield the environment in which pyinfra knows its hosts."""
    registered = place / "registered" / "rackhand_simulated-0.dist-info"
    registered.mkdir(parents=True)
    (registered / "METADATA").write_text(METADATA)
    (registered / "entry_points.txt").write_text(ENTRY_POINT)
    wire = place / "wire"
    command = [sys.executable, str(CHECKOUT / "benchmarks/simulated.py"), str(wire), "--kind", kind]
    process = subprocess.Popen(
        [*command, "--start-s", str(start_s)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdout.readline()
    try:
        path = os.pathsep.join([str(place / "registered"), str(CHECKOUT)])
        yield {"PYTHONPATH": path, SOCKET: str(wire)}
    finally:
        process.stdin.close()
        print(f"calls: {process.stdout.read().strip()}", file=sys.stderr)
        process.wait()
