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

STATUS_TIMEOUT_S = 120


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


def told(world: World, *words: str) -> Told:
    """Run `rackhand status INVENTORY --json` to its end."""
    done = subprocess.run(
        [sys.executable, "-m", "rackhand.cli", "status", str(world.directory / "world.py"), "--json", *words],
        cwd=CHECKOUT,
        env=dict(os.environ),
        capture_output=True,
        text=True,
        timeout=STATUS_TIMEOUT_S,
        check=False,
    )
    assert "Traceback" not in done.stderr
    assert done.stdout, done.stderr
    return Told(status=done.returncode, found=json.loads(done.stdout))
