"""Run the real deploy against practice hosts, as an operator would, and read what it reported."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rackhand.lab import practice, wheels
from rackhand.lab.connector import CHECKOUT
from rackhand.lab.fleet import Fleet

STANDIN = "0.32.0"
DEPLOY_TIMEOUT_S = 600


@dataclass(frozen=True, kw_only=True)
class Result:
    """One finished run: exit status, everything it printed, and its JSON report (empty when none was written)."""

    status: int
    printed: str
    stdout: str
    report: Mapping[str, Any]

    def host(self, name: str) -> Mapping[str, Any]:
        """Return one host of the report."""
        return next(host for host in self.report["hosts"] if host["name"] == f"@lab/{name}")

    def problem(self, name: str) -> Mapping[str, Any]:
        """Return the first problem of one host: code, what, where, next_step, evidence."""
        return dict(self.host(name)["problems"][0])

    def changed(self, name: str) -> list[str]:
        """Return the titles of the steps that changed something on one host."""
        return [step["name"] for step in self.host(name)["steps"] if step["changed"]]


@dataclass(frozen=True, kw_only=True)
class World:
    """A directory with an inventory for hosts of the test fleet; engines are stand-ins unless told otherwise.

    `routers` are those of its hosts that are routers.
    """

    fleet: Fleet
    directory: Path
    routers: tuple[str, ...] = ()

    def shared(self) -> dict[str, Any]:
        """Return the data that all hosts share."""
        requirements = self.directory / "requirements.txt"
        requirements.write_text(wheels.requirements(STANDIN))
        return {
            **practice.data("first", self.fleet),
            "driver_version": "580.126.20",
            "engine_version": STANDIN,
            "engine_requirements": str(requirements),
            "engine_python": "3.11",
            "engine_disk_mib": 200,
            "model_name": "tiny",
            "serve_max_model_len": 256,
            "gate_request_timeout_s": 5,
            "report_dir": str(self.directory / "reports"),
        }

    def engine(self, version: str) -> dict[str, str]:
        """Return the settings of another version of the stand-in."""
        requirements = self.directory / f"requirements-{version}.txt"
        requirements.write_text(wheels.requirements(version))
        return {"engine_version": version, "engine_requirements": str(requirements)}

    def inventory(self, hosts: Mapping[str, Mapping[str, Any]], **shared: Any) -> Path:
        """Write the inventory of a deploy; a host's data wins over `shared`."""
        return self._write(hosts, {**self.shared(), **shared})

    def _write(self, hosts: Mapping[str, Mapping[str, Any]], shared: Mapping[str, Any]) -> Path:
        path = self.directory / "world.py"
        listed = [(f"@lab/{name}", dict(data)) for name, data in hosts.items()]
        routers = [f"@lab/{name}" for name in self.routers]
        path.write_text(f"world = ({listed!r}, {dict(shared)!r})\n" + (f"routers = {routers!r}\n" if routers else ""))
        return path

    def command(self, *arguments: str, program: str = "deploy.py") -> list[str]:
        """Return the command line of a run, with this environment's pyinfra."""
        pyinfra = Path(sys.executable).with_name("pyinfra")
        return [str(pyinfra), str(self.directory / "world.py"), program, *arguments]

    def deploy(
        self,
        hosts: Mapping[str, Mapping[str, Any]],
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        **shared: Any,
    ) -> Result:
        """Run `pyinfra INVENTORY deploy.py -y` to its end and return what came of it."""
        self.inventory(hosts, **shared)
        return self._run(self.command(*(arguments or ("-y",))), environment or {})

    def roll_back(self, hosts: Mapping[str, Mapping[str, Any]], *arguments: str, **shared: Any) -> Result:
        """Run `pyinfra INVENTORY rollback.py -y` with an inventory that says nothing of engine, model and mirrors."""
        self._write(hosts, {"report_dir": str(self.directory / "reports"), **shared})
        return self._run(self.command(*(arguments or ("-y",)), program="rollback.py"), {})

    def _run(self, command: list[str], environment: Mapping[str, str]) -> Result:
        latest = self.directory / "reports" / "latest.json"
        latest.unlink(missing_ok=True)
        done = subprocess.run(
            command,
            cwd=CHECKOUT,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=DEPLOY_TIMEOUT_S,
            check=False,
        )
        report = json.loads(latest.read_text()) if latest.exists() else {}
        return Result(status=done.returncode, printed=done.stdout + done.stderr, stdout=done.stdout, report=report)
