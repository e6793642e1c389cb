"""The practice fleet of one checkout: its hosts, its network, and the end of both."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from rackhand.errors import RackhandError
from rackhand.lab import emulation, lock, network, processes, require, reservations, server, shell, supervisor
from rackhand.lab.host import LabHost
from rackhand.lab.places import Places

LOCK_TIMEOUT_S = 300
# Making the first host includes building its image.
HOST_TIMEOUT_S = 1500


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """Boot, list and remove practice hosts; all state is on disk, so any process may hold a Fleet."""

    places: Places

    @classmethod
    def of(cls, checkout: Path) -> "Fleet":
        """Return the fleet of a checkout; $RACKHAND_LAB_DIR names another place for its state."""
        return cls(places=Places.of(checkout))

    @classmethod
    def at(cls, root: Path) -> "Fleet":
        """Return the fleet whose state is in `root`."""
        return cls(places=Places.at(root))

    def reserve(self, name: str) -> LabHost:
        """Give a host its address and its keys, which it keeps until the fleet is removed; boot nothing."""
        _check_name(name)
        require.ensure()
        with lock.exclusive(self.places.lock, LOCK_TIMEOUT_S):
            held = reservations.reserve(self.places, name)
        return LabHost(fleet=self.places, name=name, prefix=held.prefix, number=held.numbers[name])

    def up(self, name: str, personality: str | None = None, suite: str = "bookworm") -> LabHost:
        """Make the host if there is none and boot it unless its power was cut on purpose; do not wait for SSH."""
        host = self.reserve(name)
        with self._making(name):
            if host.facts:
                _refuse_change(host, personality, suite)
            else:
                host.create(personality, suite)
            self._serve(host, publish=personality is not None and not host.running)
            if not host.off:
                host.power_on()
        return host

    def host(self, name: str) -> LabHost:
        """Return a host of the fleet; raise lab.unknown with the names there are."""
        hosts = {host.name: host for host in self.status()}
        if name not in hosts:
            known = ", ".join(hosts) or "none"
            raise RackhandError("lab.unknown", f"there is no practice host {name!r}", "lab", f"choose of: {known}")
        return hosts[name]

    def status(self) -> list[LabHost]:
        """Return the hosts that exist, by name."""
        return [host for host in self._reserved() if host.facts]

    def remove(self, name: str) -> None:
        """Remove one host with everything on it; its address and keys stay reserved."""
        host = self.host(name)
        with self._making(name):
            host.destroy()

    def down(self) -> None:
        """Remove everything this fleet made, whole or half-made; do nothing where there is nothing."""
        require.root()
        with lock.exclusive(self.places.lock, LOCK_TIMEOUT_S):
            inner = [pid for host in self._reserved() if (pid := host.pid)]
            processes.end(self._processes)
            processes.end(lambda: [pid for pid in inner if processes.arguments(pid)])
            self._unmount()
            network.remove(self.places)
            supervisor.remove_traces(self.places)
            self.places.remove()

    def _reserved(self) -> list[LabHost]:
        held = reservations.read(self.places)
        numbers = sorted(held.numbers.items()) if held else []
        return [LabHost(fleet=self.places, name=name, prefix=held.prefix, number=n) for name, n in numbers if held]

    def _making(self, name: str) -> AbstractContextManager[None]:
        return lock.exclusive(self.places.lock.with_suffix(f".{name}.lock"), HOST_TIMEOUT_S)

    def _serve(self, host: LabHost, *, publish: bool) -> None:
        """Raise what hosts share: bridge, file server and, for hosts with emulated hardware, the driver repository."""
        with lock.exclusive(self.places.lock, LOCK_TIMEOUT_S):
            network.ensure(self.places, host.prefix)
            server.ensure(self.places, f"{host.prefix}.1")
            if publish:
                emulation.publish(self.places.www, host.repository_url)

    def _processes(self) -> list[int]:
        """Find supervisors first: they would start again what is killed before them."""
        hosts = processes.with_argument(f"--directory={self.places.hosts}/")
        shells = [pid for pid in hosts if processes.arguments(pid)[:1] == ["/bin/sh"]]
        return [*shells, *(pid for pid in hosts if pid not in shells), *server.find(self.places)]

    def _unmount(self) -> None:
        """Unmount whatever lies below the state directory, the deepest first."""
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
        points = [line.split()[4] for line in lines]
        for point in sorted((p for p in points if p.startswith(f"{self.places.root}/")), reverse=True):
            supervisor.forget_lock(Path(point))
            shell.attempt(["umount", "--lazy", point])


def _check_name(name: str) -> None:
    if not name.replace("-", "").isalnum() or not name.islower() or name.startswith("-") or len(name) > 40:
        raise RackhandError(
            "lab.name", f"{name!r} is no host name", "lab", "use lower-case letters, digits and hyphens"
        )


def _refuse_change(host: LabHost, personality: str | None, suite: str) -> None:
    """A personality is laid down before the first boot; another one needs another host."""
    was = (host.facts["personality"], host.facts["suite"])
    if was != (personality, suite):
        raise RackhandError(
            "lab.changed",
            f"it was made as {was[0]} on {was[1]}, not {personality} on {suite}",
            host.name,
            f"make it anew: rackhand lab down {host.name}",
        )
