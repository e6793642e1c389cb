"""One detached process per host that boots it, and boots it again whenever it reboots."""

import contextlib
from dataclasses import dataclass
from pathlib import Path

from rackhand.lab import environment, places, processes, shell
from rackhand.lab.places import Places

# nspawn ends with 133 when the system inside asked for a reboot. Each host gets control groups of its own: without a
# systemd outside, nspawn would put all hosts into one, and `systemctl stop` in one host would see processes of another.
SCRIPT = """
cable=$1 groups=$2; shift 2
for group in $groups; do mkdir -p "$group" && echo $$ >"$group/cgroup.procs"; done
while :; do
    ip link delete "$cable" 2>/dev/null
    systemd-nspawn "$@"
    [ $? -eq 133 ] || exit
done
"""
OPTIONS = ("--quiet", "--register=no", "--console=pipe", "--resolv-conf=off", "--link-journal=no", "--boot")
CONTROL_GROUPS = Path("/sys/fs/cgroup")
NSPAWN_STATE = Path("/run/systemd/nspawn")


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Say what a supervisor has to know of its host; `number` is the last octet of the host's address."""

    fleet: Places
    host: str
    number: int

    @property
    def folder(self) -> Path:
        """Name the folder of the host."""
        return self.fleet.hosts / self.host

    @property
    def mark(self) -> str:
        """Return the argument by which every process of this host is recognised."""
        return f"--directory={self.folder}/root"

    @property
    def cable(self) -> str:
        """Name the outer end of the network cable, as nspawn derives it from the machine's name."""
        return f"vb-{self.fleet.machine(self.number)}"


def start(machine: Machine) -> None:
    """Boot the machine in a session of its own, so that it outlives this process."""
    groups = " ".join(str(group) for group in _groups(machine.fleet.machine(machine.number)))
    script = [SCRIPT, "lab", machine.cable, groups]
    shell.detach(["/bin/sh", "-c", *script, *_options(machine)], machine.folder / "console.log")


def find(machine: Machine) -> list[int]:
    """Return the supervisor and its nspawn, the supervisor first."""
    pids = [pid for pid in processes.with_argument(machine.mark) if machine.mark in processes.arguments(pid)]
    return sorted(pids, key=lambda pid: processes.arguments(pid)[0] != "/bin/sh")


def end(machine: Machine) -> None:
    """Kill the supervisor before nspawn, or it would boot the host again, and then whatever outlived nspawn."""
    inner = init(machine)
    processes.end(lambda: find(machine))
    processes.end(lambda: [inner] if inner and processes.arguments(inner) else [])
    for group in _groups(machine.fleet.machine(machine.number)):
        _empty(group)
    shell.attempt(["ip", "link", "delete", machine.cable])


def init(machine: Machine) -> int | None:
    """Return the outer process id of the host's own process 1."""
    spawners = [pid for pid in find(machine) if processes.arguments(pid)[0] != "/bin/sh"]
    inner = [child for pid in spawners for child in processes.children(pid) if child not in spawners]
    return inner[0] if inner else None


def _options(machine: Machine) -> list[str]:
    options = [
        *OPTIONS,
        machine.mark,
        f"--machine={machine.fleet.machine(machine.number)}",
        f"--hostname={machine.host}",
    ]
    options += [f"--network-bridge={machine.fleet.bridge}"]
    options += [f"--bind={places.cache()}/uv:{environment.UV_CACHE_ON_HOST}"]
    options += [f"--bind-ro={directory}" for directory in environment.find_links()]
    return options if _has_systemd() else ["--keep-unit", *options]


def _has_systemd() -> bool:
    """Tell whether the outer machine runs systemd, which then gives every host a scope."""
    return Path("/run/systemd/system").is_dir()


def _groups(name: str) -> list[Path]:
    if _has_systemd():
        return []
    hierarchies = [CONTROL_GROUPS / "systemd", CONTROL_GROUPS / "unified", CONTROL_GROUPS]
    return [hierarchy / name for hierarchy in hierarchies if (hierarchy / "cgroup.procs").exists()]


def remove_traces(fleet: Places) -> None:
    """Remove the control groups, and the empty directories that nspawn leaves where /run is not a tmpfs."""
    prefix = f"{fleet.digest[:6]}-"
    for group in (group for parent in _groups("") for group in parent.glob(f"{prefix}*")):
        _empty(group)
        for folder in sorted(group.glob("**/"), reverse=True):
            _remove_empty(folder)
    for leftover in NSPAWN_STATE.glob(f"*/{prefix}*"):
        _remove_empty(leftover)


def forget_lock(root: Path) -> None:
    """Remove the lock file that a killed nspawn leaves; it is named after the inode of the mounted `root`."""
    status = root.stat()
    (NSPAWN_STATE / f"locks/inode-{status.st_dev}:{status.st_ino}").unlink(missing_ok=True)


def _empty(group: Path) -> None:
    processes.end(lambda: [pid for file in group.glob("**/cgroup.procs") for pid in processes.listed(file)])


def _remove_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):
        folder.rmdir()
