"""Runs that are cut off: killed at any point, ended by a person, or left without a network; the next run heals."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from rackhand.lab import tiny_model
from rackhand.lab.connector import CHECKOUT
from rackhand.lab.fleet import Fleet
from rackhand.lab.host import LabHost
from tests.lab.deploying import World

pytestmark = pytest.mark.lab

WAIT_S = 180
LARGE_BYTES = 192 << 20
RACKHAND = "opt/rackhand"
SLOW_APT = 'DPkg::Pre-Invoke { "sleep 20"; };\n'
# Longer than a run takes to come as far as the driver, on a busy machine too.
SLOWER_APT = 'DPkg::Pre-Invoke { "sleep 60"; };\n'
OUTWARD = {signal.SIGKILL: -9, signal.SIGTERM: 143, signal.SIGINT: 130}


@pytest.fixture(scope="module")
def world(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(fleet=fleet, directory=tmp_path_factory.mktemp("interruptions"))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model that takes a second to copy."""
    place = tiny_model.build(tmp_path_factory.mktemp("large") / "tiny")
    (place / "padding.txt").write_bytes(os.urandom(1 << 20) * (LARGE_BYTES >> 20))
    return str(place)


@dataclass(frozen=True, kw_only=True)
class Running:
    """A run that goes on in the background."""

    process: subprocess.Popen[str]
    output: Path
    world: World

    def end(self, number: signal.Signals) -> int:
        """Send a signal to pyinfra and return its exit status."""
        self.process.send_signal(number)
        return self.process.wait(WAIT_S)

    def printed(self) -> str:
        return self.output.read_text()

    def until(self, reached: "Reached", host: LabHost) -> None:
        """Wait for a moment of the run; the run must still be going on then."""
        deadline = time.monotonic() + WAIT_S
        while not reached(host, self):
            assert self.process.poll() is None, self.printed()
            assert time.monotonic() < deadline, self.printed()
            time.sleep(0.004)


Reached = Callable[[LabHost, Running], bool]


@pytest.fixture
def start(world: World) -> Iterator[Callable[..., Running]]:
    """Start runs as an operator would; what still runs after the test is killed."""
    begun: list[Running] = []

    def begin(hosts: Mapping[str, Mapping[str, Any]], **shared: Any) -> Running:
        world.inventory(hosts, **shared)
        (world.directory / "reports" / "latest.json").unlink(missing_ok=True)
        output = world.directory / f"output-{len(begun)}.txt"
        with output.open("w") as stream:
            process = subprocess.Popen(
                world.command("-y"),
                cwd=CHECKOUT,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
        begun.append(Running(process=process, output=output, world=world))
        return begun[-1]

    yield begin
    for running in begun:
        if running.process.poll() is None:
            running.process.kill()
            running.process.wait()


def inside(host: LabHost) -> Path:
    """Name the root directory of a host that runs; while it is down this is a path that does not exist."""
    return Path(f"/proc/{host.pid or 'none'}/root")


def apt_begun(host: LabHost, _: Running) -> bool:
    return (inside(host) / "var/log/rackhand/driver-install.log").exists()


def installing(host: LabHost, _: Running) -> bool:
    log = inside(host) / "var/log/rackhand/driver-install.log"
    return log.is_file() and "Unpacking" in log.read_text()


def rebooting(host: LabHost, running: Running) -> bool:
    return "installed: reboot (" in running.printed() and not (inside(host) / "run/systemd/system").is_dir()


def building(host: LabHost, _: Running) -> bool:
    return any((inside(host) / RACKHAND / "venvs").glob("*/pyvenv.cfg"))


def copying(host: LabHost, _: Running) -> bool:
    incoming = list((inside(host) / RACKHAND / "incoming").glob("tiny@*/padding.txt"))
    return bool(incoming) and 0 < incoming[0].stat().st_size < LARGE_BYTES


def switched(host: LabHost, _: Running) -> bool:
    return (inside(host) / RACKHAND / "current").is_symlink()


def waiting(_: LabHost, running: Running) -> bool:
    return " to serve: " in running.printed() or "starting" in running.printed()


POINTS: Mapping[signal.Signals, tuple[Reached, ...]] = {
    signal.SIGKILL: (building, copying, installing, rebooting, switched),
    signal.SIGTERM: (copying, installing, waiting),
    signal.SIGINT: (building, copying, rebooting, switched),
}


def report(world: World) -> Mapping[str, Any]:
    path = world.directory / "reports" / "latest.json"
    return dict(json.loads(path.read_text())) if path.exists() else {}


@pytest.mark.parametrize("number", OUTWARD, ids=lambda number: number.name)
def test_a_run_that_ends_at_any_point_is_healed_by_the_next(
    world: World, start: Callable[..., Running], model: str, number: signal.Signals
) -> None:
    name = f"cut-{number.name.lower()}"
    hosts = {name: {"lab_personality": "1xL4", "model_path": model}}
    host = world.fleet.up(name, "1xL4")
    host.wait_ssh()
    host.run(["modprobe", "nouveau"])  # only a boot ends it
    host.write("/etc/rackhand-lab/standin.conf", "fault slow-start 14\n")
    for reached in POINTS[number]:
        running = start(hosts)
        running.until(reached, host)
        status = running.end(number)
        print(f"{number.name} {reached.__name__}: exit {status}: {running.printed().splitlines()[-3:]}")
        assert status == OUTWARD[number], running.printed()
        assert "Traceback" not in running.printed()
        if number is not signal.SIGKILL:
            assert report(world)["hosts"][0]["status"] == "interrupted", running.printed()
            assert "interrupted" in running.printed()
    host.write("/etc/rackhand-lab/standin.conf", "")
    healed = world.deploy(hosts)
    assert healed.status == 0, healed.printed
    assert [item["gate"] for item in healed.host(name)["instances"]] == ["passed"]
    again = world.deploy(hosts)
    assert again.status == 0, again.printed
    assert again.changed(name) == []
    leftovers = [path.name for path in (inside(host) / RACKHAND / "incoming").glob("*@*")]
    assert leftovers == []
    world.fleet.remove(name)


def test_the_next_run_waits_for_the_apt_that_a_killed_run_left_behind(
    world: World, start: Callable[..., Running]
) -> None:
    hosts = {"orphan": {"lab_personality": "1xL4"}}
    host = world.fleet.up("orphan", "1xL4")
    host.wait_ssh()
    host.write("/etc/apt/apt.conf.d/99slow", SLOWER_APT)
    running = start(hosts)
    running.until(apt_begun, host)
    running.end(signal.SIGKILL)
    host.run(["sh", "-c", "kill -9 $(sed 's/.*pid \\([0-9]*\\).*/\\1/' /run/rackhand.lock)"])
    assert "apt-get" in host.run(["ps", "-eo", "comm"]).stdout, "what was begun goes on, even without its parent"
    result = world.deploy(hosts)
    assert result.status == 0, result.printed
    told = next(line for line in result.printed.splitlines() if "of an earlier or another run" in line)
    print(told)
    assert "waiting for 'driver' (pid " in told
    assert host.run(["dpkg", "--audit"]).stdout == ""
    world.fleet.remove("orphan")


def test_a_pulled_cable_fails_that_host_alone_and_the_next_run_heals_it(
    world: World, start: Callable[..., Running]
) -> None:
    hosts = {"plugged": {"lab_personality": "1xL4"}, "unplugged": {"lab_personality": "1xL4"}}
    host = world.fleet.up("unplugged", "1xL4")
    host.wait_ssh()
    host.write("/etc/apt/apt.conf.d/99slow", SLOW_APT)
    running = start(hosts)
    running.until(apt_begun, host)
    host.unplug()
    begun = time.monotonic()
    assert running.process.wait(WAIT_S) == 1
    print(f"known after {time.monotonic() - begun:.0f} s")
    found = {item["name"]: item for item in report(world)["hosts"]}
    assert found["@lab/plugged"]["status"] == "healthy", running.printed()
    problem = found["@lab/unplugged"]["problems"][0]
    print(f"{problem['where']}: {problem['what']} [{problem['code']}] → {problem['next_step']}")
    assert problem["code"] == "connection-lost"
    assert problem["where"] == "@lab/unplugged"
    assert "Traceback" not in running.printed()
    host.plug()
    healed = world.deploy(hosts)
    assert healed.status == 0, healed.printed
    assert healed.changed("plugged") == []
    for name in hosts:
        world.fleet.remove(name)
