"""The faults of the matrix: how each is done to a run and its hosts, and how it is undone."""

import contextlib
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from rackhand.errors import RackhandError
from rackhand.lab import shell
from rackhand.lab.host import LabHost

INSTANCE = "vllm@tiny-0"
STANDIN_FAULTS = "/etc/rackhand-lab/standin.conf"
DISK = "6g"
PID_WAIT_S = 3.0
# Hold apt's lock as another package manager does.
LOCKED = """
import fcntl, time
held = open("/var/lib/dpkg/lock-frontend", "w")
fcntl.lockf(held, fcntl.LOCK_EX)
time.sleep(600)
"""


class Scene(Protocol):
    """What a fault may lay hands on: `at` is the host that the step belongs to, `new` the version rolled out."""

    rack: LabHost
    front: LabHost
    at: LabHost
    group: int
    new: str
    bad: str
    phases: list[str]


Deed = Callable[[Scene], object]


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One fault. It is undone after `lasts_s` while the run goes on, without that when the run is over."""

    name: str
    how: str
    strike: Deed
    heal: Deed = lambda scene: None
    lasts_s: float | None = None


def inside(host: LabHost, command: str) -> str:
    """Run a shell command on a host; one that is down does nothing."""
    with contextlib.suppress(Exception):
        return host.run(["sh", "-c", command]).stdout
    return ""


def disk(host: LabHost, size: str) -> None:
    """Give the host's disk a size; one that has no room at all says so to whoever writes."""
    shell.run(["mount", "-o", f"remount,size={size}", str(host.machine.folder)])


def _cut(scene: Scene) -> None:
    inside(scene.at, "systemctl stop ssh; kill $(pidof sshd)")


def _reach(scene: Scene) -> None:
    inside(scene.at, "systemctl start ssh")


def _kill_controller(scene: Scene) -> None:
    os.killpg(scene.group, signal.SIGKILL)


def _power(scene: Scene) -> None:
    scene.at.power_cut()
    scene.at.power_on()


def _reboot(scene: Scene) -> None:
    inside(scene.at, "systemctl reboot")


def _fill(scene: Scene) -> None:
    """Leave no room at all; whoever writes between the look and the remount makes the kernel refuse that size."""
    for last in (False,) * 9 + (True,):
        used = os.statvfs(scene.at.machine.folder)
        try:
            return disk(scene.at, str((used.f_blocks - used.f_bfree) * used.f_frsize))
        except RackhandError:
            if last:
                raise


def _empty(scene: Scene) -> None:
    disk(scene.at, DISK)


def _engine(scene: Scene, number: signal.Signals) -> None:
    """Send a signal to the engine's process, once there is one."""
    deadline, told = time.monotonic() + PID_WAIT_S, ""
    while time.monotonic() < deadline:
        told = inside(scene.rack, f"systemctl show --value --property MainPID {INSTANCE}").strip()
        if told not in ("", "0"):
            inside(scene.rack, f"kill -{number.name.removeprefix('SIG')} {told}")
            return
        time.sleep(0.02)


def _die(scene: Scene) -> None:
    _engine(scene, signal.SIGKILL)


def _hang(scene: Scene) -> None:
    """Let the new engine hang where it is asked, and any other wherever it is."""
    if scene.phases[-1:] in (["start"], ["answering"]):
        _stand_in(scene, "hangs-at-start", "hangs-at-completion")
    else:
        _engine(scene, signal.SIGSTOP)


def _go_on(scene: Scene) -> None:
    _well(scene)
    inside(scene.rack, f"systemctl kill --signal CONT {INSTANCE}")


def _stand_in(scene: Scene, *faults: str) -> None:
    named = [*faults, *([scene.bad] if scene.bad else [])]
    scene.rack.write(STANDIN_FAULTS, "".join(f"fault {fault} version={scene.new}\n" for fault in named))


def _well(scene: Scene) -> None:
    with contextlib.suppress(OSError):
        scene.rack.write(STANDIN_FAULTS, "")


def _lock_apt(scene: Scene) -> None:
    done = scene.rack.run(["systemd-run", "--quiet", "--unit", "other-apt", "python3", "-c", LOCKED])
    assert done.returncode == 0, done.stderr


FAULTS: tuple[Fault, ...] = (
    Fault(
        name="SSH cut",
        how="sshd and all its sessions of the step's host are killed; for 7 s nobody listens",
        strike=_cut,
        heal=_reach,
        lasts_s=7,
    ),
    Fault(name="controller killed", how="SIGKILL to pyinfra", strike=_kill_controller),
    Fault(name="power loss", how="the step's host is killed and booted again", strike=_power),
    Fault(name="reboot", how="systemctl reboot on the step's host", strike=_reboot),
    Fault(
        name="disk full",
        how="for 12 s the whole disk of the step's host has no byte left",
        strike=_fill,
        heal=_empty,
        lasts_s=12,
    ),
    Fault(name="engine dies", how="SIGKILL to the engine that is there, or the next one to come", strike=_die),
    Fault(
        name="engine hangs",
        how="SIGSTOP to the engine; a new one is silent at its start, or when it is asked for tokens",
        strike=_hang,
        heal=_go_on,
    ),
    Fault(
        name="wrong model",
        how="the new engine names another model",
        strike=lambda scene: _stand_in(scene, "wrong-model-name"),
        heal=_well,
    ),
    Fault(
        name="slow start",
        how="the new engine starts for longer than it may",
        strike=lambda scene: _stand_in(scene, "slow-start 60"),
        heal=_well,
    ),
    Fault(
        name="completion garbage",
        how="the new engine answers a completion with bytes that are no JSON",
        strike=lambda scene: _stand_in(scene, "garbage-completion"),
        heal=_well,
    ),
    Fault(
        name="apt lock",
        how="another process holds dpkg's lock for 5 s",
        strike=_lock_apt,
        heal=lambda scene: inside(scene.rack, "systemctl stop other-apt"),
        lasts_s=5,
    ),
    Fault(
        name="HAProxy down",
        how="HAProxy is stopped on the router",
        strike=lambda scene: inside(scene.front, "systemctl stop haproxy"),
        heal=lambda scene: inside(scene.front, "systemctl start haproxy"),
    ),
)
