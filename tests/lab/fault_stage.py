"""Where faults are played: a GPU host and a router that serve, from pair to pair another release."""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from rackhand.lab import shell, tiny_model
from rackhand.lab.connector import CHECKOUT
from rackhand.lab.fleet import Fleet
from rackhand.lab.host import LabHost
from tests.lab.deploying import Result, World
from tests.lab.driver_state import NEW, OLD
from tests.lab.fault_kinds import DISK, STANDIN_FAULTS, disk
from tests.lab.fault_moments import FRONT, RACK, SPARE_PACKAGE, Sight
from tests.lab.routed import PUBLIC

KEY = "sk-engines"
VERSIONS = ("0.31.0", "0.32.0")
# Nothing waits for longer than it must: a drain, a confirmation, a start, the answer to one request.
SHORT = {
    "serve_shutdown_timeout_s": 1,
    "drain_timeout_s": 4,
    "rollout_confirm_s": 5,
    "gate_start_timeout_s": 8,
    "gate_request_timeout_s": 3,
    "lease_s": 30,
    "engine_host_packages": ["gcc", "libc6-dev", SPARE_PACKAGE],
}
RUN_S = 240


@dataclass
class Stage:
    """One GPU host and its router; `number` counts the releases, so that each has an id of its own."""

    fleet: Fleet
    directory: Path
    name: str
    number: int = 0
    turned: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        self.models = [self._model(number) for number in range(2)]
        self.hosts = {
            f"{self.name}-{RACK}": {"lab_personality": "1xH100"},
            f"{self.name}-{FRONT}": {"lab_personality": "none"},
        }
        self.world = World(fleet=self.fleet, directory=self.directory, routers=(f"{self.name}-{FRONT}",))

    def _model(self, number: int) -> Path:
        place = tiny_model.build(self.directory / f"model-{number}" / "tiny")
        (place / "padding.txt").write_bytes(bytes([number]) * (8 << 20))
        return place

    @cached_property
    def rack(self) -> LabHost:
        return self.fleet.reserve(f"{self.name}-{RACK}")

    @cached_property
    def front(self) -> LabHost:
        return self.fleet.reserve(f"{self.name}-{FRONT}")

    def at(self, where: str) -> LabHost:
        return {RACK: self.rack, FRONT: self.front}[where]

    @property
    def version(self) -> str:
        """The version of the release that is rolled out now; each is another one than the one before."""
        return VERSIONS[self.number % 2]

    def wishes(self) -> dict[str, Any]:
        """Return the settings of the release that is rolled out now."""
        turned = {
            "driver_version": (NEW, OLD)[self.turned.get("driver_version", 0) % 2],
            "router_timeout_s": (900, 901)[self.turned.get("router_timeout_s", 0) % 2],
            "model_path": str(self.models[self.turned.get("model_path", 0) % 2]),
        }
        numbered = {"serve_env": {"RELEASE": str(self.number)}}
        return {**PUBLIC, **SHORT, **numbered, **turned, **self.world.engine(self.version)}

    def turn(self, settings: tuple[str, ...]) -> None:
        """Wish the next release, with another value of these settings."""
        self.number += 1
        for name in settings:
            self.turned[name] = self.turned.get(name, 0) + 1

    def deploy(self) -> Result:
        return self.world.deploy(self.hosts, environment={"LAB_ENGINE_KEY": KEY}, **self.wishes())

    def build(self) -> None:
        """Boot both hosts on disks of their own, and let them serve."""
        for name in self.hosts:
            place = self.fleet.reserve(name).machine.folder
            place.mkdir(parents=True, exist_ok=True)
            shell.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(place)])
        result = self.deploy()
        assert result.status == 0, result.printed

    def repair(self) -> None:
        """Let the next pair begin with a host that serves, after one that did not: a new one where no run heals it."""
        self.well()
        self.turn(())
        if self.deploy().status:
            self.clear()
            self.build()

    def clear(self) -> None:
        """Take both hosts and their disks away."""
        for name in self.hosts:
            place = self.fleet.reserve(name).machine.folder
            with contextlib.suppress(Exception):
                self.fleet.remove(name)
            shell.attempt(["umount", "--lazy", str(place)])
            with contextlib.suppress(OSError):
                place.rmdir()

    def begin(self) -> "Running":
        """Start a run as an operator would."""
        self.world.inventory(self.hosts, **self.wishes())
        report = self.directory / "reports" / "latest.json"
        report.unlink(missing_ok=True)
        output = self.directory / "output.txt"
        with output.open("w") as stream:
            process = subprocess.Popen(
                self.world.command("-y"),
                cwd=CHECKOUT,
                env={**os.environ, "LAB_ENGINE_KEY": KEY},
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
        return Running(process=process, output=output, report=report)

    def sight(self, running: "Running") -> Sight:
        return Sight(output=running.output, root=Path(f"/proc/{self.rack.pid or 'none'}/root"))

    def well(self) -> None:
        """Undo what any fault may have left."""
        for host in (self.rack, self.front):
            disk(host, DISK)
            if not host.pid:
                host.power_on()
            host.wait_ssh()
        self.rack.write(STANDIN_FAULTS, "")


@dataclass(frozen=True, kw_only=True)
class Running:
    """A run that goes on in the background."""

    process: subprocess.Popen[str]
    output: Path
    report: Path

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Let the controller hold its breath: it must not be faster than the fault."""
        self._signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def end(self) -> Result:
        """Wait for the end and return what came of it; a run that does not end is killed and has status 124."""
        try:
            status = self.process.wait(RUN_S)
        except subprocess.TimeoutExpired:
            self._signal(signal.SIGKILL)
            self.process.wait()
            status = 124
        found: Mapping[str, Any] = json.loads(self.report.read_text()) if self.report.exists() else {}
        printed = self.output.read_text(errors="replace")
        return Result(status=status, printed=printed, stdout=printed, report=found)

    def goes_on(self, seconds: float) -> None:
        """Wait while the run goes on, at most so long."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)

    def before(self, deadline: float) -> bool:
        return self.process.poll() is None and time.monotonic() < deadline
