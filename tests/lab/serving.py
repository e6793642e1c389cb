"""One practice host that the deploy brings up: break it, look at its units, deploy again."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rackhand.lab.fleet import Fleet
from rackhand.lab.host import LabHost
from tests.lab.deploying import Result, World

FAULTS = "/etc/rackhand-lab/standin.conf"


@dataclass(frozen=True, kw_only=True)
class Rack:
    """A host of the test fleet with the data that an inventory holds for it."""

    world: World
    name: str
    data: Mapping[str, Any]

    @classmethod
    def of(cls, fleet: Fleet, directory: Path, name: str, personality: str = "1xH100") -> "Rack":
        """Name a host; the first deploy boots it."""
        return cls(world=World(fleet=fleet, directory=directory), name=name, data={"lab_personality": personality})

    @property
    def host(self) -> LabHost:
        return self.world.fleet.host(self.name)

    def deploy(self, **shared: Any) -> Result:
        return self.world.deploy({self.name: self.data}, **shared)

    def serves(self, **shared: Any) -> Result:
        """Deploy and require that it went well."""
        result = self.deploy(**shared)
        assert result.status == 0, result.printed
        return result

    def breaks(self, *faults: str) -> None:
        """Switch on these faults of the stand-in engine and no others; none heals it."""
        self.host.write(FAULTS, "".join(f"fault {fault}\n" for fault in faults))

    def does(self, command: str) -> str:
        """Run a shell command inside and return what it printed."""
        done = self.host.run(["sh", "-c", command])
        return done.stdout + done.stderr

    def unit(self, instance: str, *names: str) -> list[str]:
        """Return properties of an instance's unit, in the order asked for."""
        return [self.does(f"systemctl show --value --property {name} vllm@{instance}").strip() for name in names]

    def pid(self, instance: str) -> int:
        """Return the main process of an instance as seen inside, 0 when there is none."""
        return int(self.unit(instance, "MainPID")[0])

    def becomes(self, holds: Callable[[], bool], timeout_s: float = 30) -> bool:
        """Wait until something holds; tell whether it does."""
        deadline = time.monotonic() + timeout_s
        while not holds() and time.monotonic() < deadline:
            time.sleep(0.1)
        return holds()

    def left(self) -> list[str]:
        """Name every instance that runs, failed, or is enabled, such as `tiny-0 active` and `tiny-0 enabled`."""
        states = "--state=active,activating,deactivating,failed"
        units = self.does(f"systemctl list-units --all --plain --no-legend {states} 'vllm@*'").splitlines()
        links = self.does("ls /etc/systemd/system/multi-user.target.wants").split()
        found = [(line.split()[0], line.split()[2]) for line in units]
        found += [(link, "enabled") for link in links if link.startswith("vllm@")]
        return sorted(f"{unit.removeprefix('vllm@').removesuffix('.service')} {state}" for unit, state in found)
