"""A fleet of its own for a benchmark on practice hosts, gone at the end, and runs of the deploy against it."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks import measuring
from benchmarks.measuring import CHECKOUT, Spent
from rackhand.lab.fleet import Fleet
from rackhand.lab.host import LabHost
from tests.lab.deploying import World

PERSONALITY = "1xH100"


@contextmanager
def fleet(parent: str | None) -> Iterator[World]:
    """Make the place for a fleet, and remove it with everything in it."""
    directory = Path(tempfile.mkdtemp(prefix="rhb-", dir=parent))
    os.environ["RACKHAND_LAB_DIR"] = str(directory / "lab")
    made = Fleet.of(CHECKOUT)
    try:
        yield World(fleet=made, directory=directory)
    finally:
        made.down()
        shutil.rmtree(directory, ignore_errors=True)


def boot(world: World, count: int) -> list[LabHost]:
    """Boot so many bare hosts."""
    hosts = [world.fleet.up(f"host{number}", PERSONALITY) for number in range(1, count + 1)]
    for host in hosts:
        host.wait_ssh()
    return hosts


def deploy(world: World, hosts: Sequence[LabHost], *arguments: str, **shared: Any) -> tuple[Spent, Mapping[str, Any]]:
    """Run the deploy over some hosts; return what it took and its report (empty where it wrote none)."""
    world.inventory({host.name: {"lab_personality": PERSONALITY} for host in hosts}, **shared)
    latest, log = world.directory / "reports" / "latest.json", world.directory / "deploy.log"
    latest.unlink(missing_ok=True)
    spent = measuring.spend(world.command("-y", *arguments), log)
    return spent, json.loads(latest.read_text()) if latest.exists() else {}
