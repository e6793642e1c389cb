"""Ask practice hosts how they stand, as an operator would."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rackhand.lab.connector import CHECKOUT
from tests.lab.deploying import World

ASK_TIMEOUT_S = 120


@dataclass(frozen=True, kw_only=True)
class Told:
    """One answer of `rackhand status --json`: its exit status and the document."""

    status: int
    found: Mapping[str, Any]

    def host(self, name: str) -> Mapping[str, Any]:
        """Return what is said of one host."""
        return next(host for host in self.found["hosts"] if host["name"] == f"@lab/{name}")

    def codes(self, name: str) -> list[str]:
        """Return the codes of a host's drifts."""
        return [drift["code"] for drift in self.host(name)["drifts"]]

    def states(self, name: str) -> list[str]:
        """Return the states of a host's instances."""
        return [instance["state"] for instance in self.host(name)["instances"]]


@dataclass(frozen=True, kw_only=True)
class Verified:
    """One answer of `rackhand verify --json`: its exit status and the document."""

    status: int
    found: Mapping[str, Any]

    def host(self, name: str) -> Mapping[str, Any]:
        """Return what is said of one host."""
        return next(host for host in self.found["hosts"] if host["name"] == f"@lab/{name}")

    def found_on(self, name: str) -> dict[tuple[str, str], bool]:
        """Return whether each finding of a host blocks, by its code and the address of its GPU."""
        return {(each["code"], each["gpu"]): each["blocks"] for each in self.host(name)["findings"]}


def told(world: World, *words: str) -> Told:
    """Run `rackhand status INVENTORY --json` to its end."""
    status, found = _asked(world, "status", *words)
    return Told(status=status, found=found)


def verified(world: World, *words: str) -> Verified:
    """Run `rackhand verify INVENTORY --json` to its end."""
    status, found = _asked(world, "verify", *words)
    return Verified(status=status, found=found)


def _asked(world: World, command: str, *words: str) -> tuple[int, Mapping[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-m", "rackhand.cli", command, str(world.directory / "world.py"), "--json", *words],
        cwd=CHECKOUT,
        env=dict(os.environ),
        capture_output=True,
        text=True,
        timeout=ASK_TIMEOUT_S,
        check=False,
    )
    assert "Traceback" not in done.stderr
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)
