"""One detached process per host that boots it, and boots it again whenever it reboots."""

import contextlib
from dataclasses import dataclass
from pathlib import Path

from rackhand.lab import environment, places, processes, shell
from rackhand.lab.places import Places

# nspawn ends with 133 when the system inside asked for a reboot. Each host gets control groups of its own: nspawn would
# put all hosts into the caller's, `systemctl stop` in one host would then see processes of another, and the end of an
# SSH session or a CI job outside could take the hosts with it. The loop itself sits elsewhere, because the unified
# hierarchy allows no processes in a group that has groups below it.
SCRIPT = """
cable=$1 groups=$2; shift 2
for group in $groups; do mkdir -p "$group-loop" && echo 0 >"$group-loop/cgroup.procs"; done
while :; do
    ip link delete "$cable" 2>/dev/null
    for group in $groups; do find "$group" -depth -type d -exec rmdir {} + 2>/dev/null; mkdir -p "$group"; done
    (
        for group in $groups; do echo 0 >"$group/cgroup.procs"; done
        exec systemd-nspawn "$@"
    )
    [ $? -eq 133 ] || exit
done
"""
OPTIONS = (
    *("--quiet", "--boot", "--register=no", "--keep-unit"),
    *("--console=pipe", "--resolv-conf=off", "--link-journal=no"),
)
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
    return sorted(pids, key=lambda pid: not _is_loop(pid))


def end(machine: Machine) -> None:
    """Kill the supervisor first, or it would boot the host again, then nspawn, then what outlives a killed nspawn."""
    inner = init(machine)
    processes.end(lambda: find(machine))
    processes.end(lambda: [inner] if inner and processes.arguments(inner) else [])
    for group in _groups(machine.fleet.machine(machine.number)):
        _empty(group)
    shell.attempt(["ip", "link", "delete", machine.cable])


def init(machine: Machine) -> int | None:
    """Return the outer process id of the host's own process 1."""
    spawners = [pid for pid in find(machine) if not _is_loop(pid)]
    inner = [child for pid in spawners for child in processes.children(pid) if child not in spawners]
    return inner[0] if inner else None


def _is_loop(pid: int) -> bool:
    return processes.arguments(pid)[:1] == ["/bin/sh"]


def _options(machine: Machine) -> list[str]:
    options = [
        *OPTIONS,
        machine.mark,
        f"--machine={machine.fleet.machine(machine.number)}",
        f"--hostname={machine.host}",
    ]
    options += [f"--network-bridge={machine.fleet.bridge}"]
    options += [f"--bind={places.cache()}/uv:{environment.UV_CACHE_ON_HOST}"]
    return [*options, *(f"--bind-ro={directory}" for directory in environment.find_links())]


def _groups(name: str) -> list[Path]:
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
