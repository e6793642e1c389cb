"""One practice host and what can be done to it."""

import json
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from rackhand.errors import RackhandError
from rackhand.lab import emulation, image, network, places, processes, shell, supervisor, upper
from rackhand.lab import personality as personalities
from rackhand.lab.places import Places
from rackhand.lab.supervisor import Machine

SSH_TIMEOUT_S = 60.0
RUN_TIMEOUT_S = 120.0
POLL_S = 0.05
CLEAN_ENVIRONMENT = ("env", "-i", "HOME=/root", "LANG=C.UTF-8", f"PATH={shell.SYSTEM_PATH}")


@dataclass(frozen=True, kw_only=True)
class LabHost:
    """Name a host of a fleet, booted or not; every answer is read from the machine, none is remembered."""

    fleet: Places
    name: str
    prefix: str
    number: int

    @property
    def address(self) -> str:
        """Return the IPv4 address, which is known before the first boot."""
        return f"{self.prefix}.{self.number}"

    @property
    def machine(self) -> Machine:
        """Return what the supervisor needs to know."""
        return Machine(fleet=self.fleet, host=self.name, number=self.number)

    @property
    def rootfs(self) -> Path:
        """Name the upper directory: everything in which this host differs from its image."""
        return self.machine.folder / "upper"

    @property
    def known_hosts(self) -> Path:
        """Name the known_hosts file that holds this host's key only."""
        return self.fleet.root / "ssh" / self.name / "known_hosts"

    @property
    def key(self) -> Path:
        """Name the private key that every host of the fleet lets in as root."""
        return self.fleet.root / "ssh" / "id_ed25519"

    @property
    def repository_url(self) -> str:
        """Return the base address of the files served on the bridge."""
        return f"http://{self.prefix}.1:{network.HTTP_PORT}"

    @property
    def facts(self) -> dict[str, str | None]:
        """Return personality and suite as chosen at the first boot; empty for a host that is not whole."""
        file = self.machine.folder / "host.json"
        return dict(json.loads(file.read_text())) if file.is_file() else {}

    @property
    def pid(self) -> int | None:
        """Return the outer process id of the host's process 1, or None while it is not running."""
        return supervisor.init(self.machine)

    @property
    def off(self) -> bool:
        """Tell whether somebody cut the power on purpose."""
        return (self.machine.folder / "off").exists()

    @property
    def running(self) -> bool:
        """Tell whether the host is up or on its way, e.g. between two boots of a reboot."""
        return bool(supervisor.find(self.machine))

    @property
    def state(self) -> str:
        """Return running, booting, stopped or off (power cut on purpose)."""
        if self.off:
            return "off"
        if not self.running:
            return "stopped"
        if not self.plugged:
            return "unplugged"
        return "running" if _greets(self.address) else "booting"

    @property
    def plugged(self) -> bool:
        """Tell whether the network cable is in."""
        flags = Path("/sys/class/net") / self.machine.cable / "flags"
        return flags.is_file() and bool(int(flags.read_text(), 16) & 1)

    @property
    def boot_id(self) -> str | None:
        """Return the boot id, new after each boot, or None while the host is not running."""
        try:
            return Path(f"/proc/{self.pid}/root/proc/sys/kernel/random/boot_id").read_text().strip()
        except OSError:
            return None

    @property
    def uptime_s(self) -> float | None:
        """Return the seconds since the last boot, or None while the host is not running."""
        pid = self.pid
        return processes.age_s(pid) if pid else None

    def create(self, personality: str | None, suite: str) -> None:
        """Make the files of a host that does not exist yet; what a crash left half-made is removed first."""
        folder = self.machine.folder
        self.destroy()
        base = image.ensure(suite)
        for part in ("upper", "work", "root"):
            (folder / part).mkdir(parents=True)
        folder.parent.chmod(0o755)
        upper.prepare(self.rootfs, self._identity())
        if personality is not None:
            emulation.install(self.rootfs, personalities.load(personality), self.repository_url, self.name)
        facts = {"personality": personality, "suite": suite, "image": str(base)}
        (folder / "host.json").write_text(json.dumps(facts))

    def power_on(self) -> None:
        """Boot a host that is not running; the power stays on until somebody cuts it."""
        (self.machine.folder / "off").unlink(missing_ok=True)
        if self.running:
            return
        # A crash outside may have left the inside of the last boot running.
        supervisor.end(self.machine)
        self._mount()
        upper.refresh(self.machine.folder / "root")
        supervisor.start(self.machine)

    def power_cut(self) -> None:
        """Take the power away: nothing inside gets to say good-bye, and the host stays off until power_on."""
        (self.machine.folder / "off").touch()
        supervisor.end(self.machine)

    def unplug(self) -> None:
        """Pull the network cable; a reboot puts it back."""
        shell.attempt(["ip", "link", "set", self.machine.cable, "down"])

    def plug(self) -> None:
        """Put the network cable back."""
        shell.attempt(["ip", "link", "set", self.machine.cable, "up"])

    def reboot(self, timeout_s: float = SSH_TIMEOUT_S) -> None:
        """Reboot as an operator would and wait until SSH answers again."""
        before = self.boot_id
        self.run(["systemctl", "reboot"])
        deadline = time.monotonic() + timeout_s
        while self.boot_id in (before, None) and time.monotonic() < deadline:
            time.sleep(POLL_S)
        self.wait_ssh(deadline - time.monotonic())

    def run(
        self, argv: list[str], stdin: str | None = None, timeout_s: float = RUN_TIMEOUT_S
    ) -> subprocess.CompletedProcess[str]:
        """Run a command inside, past SSH and the network; raise lab.off when the host is not running."""
        pid = self.pid
        if pid is None:
            raise RackhandError("lab.off", "the practice host is not running", self.name, "run: rackhand lab up")
        enter = ["nsenter", "-t", str(pid), "-m", "-u", "-i", "-n", "-p", "-C", "--", *CLEAN_ENVIRONMENT]
        return shell.attempt([*enter, *argv], stdin=stdin, timeout_s=timeout_s)

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Write a file of the host, running or not, with its parent directories."""
        pid = self.pid
        self._mount()
        base = Path(f"/proc/{pid}/root") if pid else self.machine.folder / "root"
        target = base / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        target.chmod(mode)

    def wait_ssh(self, timeout_s: float = SSH_TIMEOUT_S) -> None:
        """Return once sshd greets; raise lab.boot with the console's last lines when it does not in time."""
        deadline = time.monotonic() + timeout_s
        while not _greets(self.address):
            if not self.running or time.monotonic() > deadline:
                raise self._silent()
            time.sleep(POLL_S)

    def destroy(self) -> None:
        """Remove the host with everything on it; its address and keys stay reserved."""
        supervisor.end(self.machine)
        if self._mounted():
            root = self.machine.folder / "root"
            supervisor.forget_lock(root)
            shell.run(["umount", "--lazy", str(root)])
        shutil.rmtree(self.machine.folder, ignore_errors=True)

    def _identity(self) -> upper.Identity:
        return upper.Identity(
            name=self.name,
            address=self.address,
            gateway=f"{self.prefix}.1",
            host_key=self.known_hosts.with_name("host_key"),
            authorized_key=self.key.with_suffix(".pub"),
        )

    def _mounted(self) -> bool:
        return (self.machine.folder / "root").is_mount()

    def _mount(self) -> None:
        if self._mounted():
            return
        (places.cache() / "uv").mkdir(parents=True, exist_ok=True)
        folder = self.machine.folder
        layers = f"lowerdir={self.facts['image']},upperdir={folder}/upper,workdir={folder}/work"
        shell.run(["mount", "-t", "overlay", "-o", layers, "overlay", f"{folder}/root"])

    def _silent(self) -> RackhandError:
        log = self.machine.folder / "console.log"
        lines = log.read_text(errors="replace").splitlines()[-5:] if log.is_file() else []
        what = "no SSH yet" if self.running else "the practice host is not running"
        return RackhandError("lab.boot", what, f"{self.name} ({self.address})", f"read {log}", evidence=tuple(lines))


def _greets(address: str) -> bool:
    try:
        with socket.create_connection((address, 22), timeout=0.5) as connection:
            connection.settimeout(2)
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False
