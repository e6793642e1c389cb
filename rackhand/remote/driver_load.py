"""Exchange the driver's modules for those that are installed, without a reboot: stop, unload, load, start again."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rackhand.remote import command, gpu_holders, paused
from rackhand.remote.problem import Problem

MODULES = Path("/sys/module")
DRIVER = "nvidia"
MODPROBE_S = 180
LOG = "driver"
REJECTED = ("Key was rejected", "Required key not available")
# What a kernel that Secure Boot locked down says instead where it enforces no signatures, as Debian's.
DENIED = "Operation not permitted"
LOCKDOWN = Path("/sys/kernel/security/lockdown")


@command.alone("driver")
def renew(services: list[str], modules: list[str], timeout_s: int) -> dict[str, Any]:
    """Stop `services` in order, exchange all modules of the driver, load `modules`, start again what had run.

    `why` says what stands in the way of an exchange, empty where there was none; `down` are services that do not start
    again, `lost` modules of others that needed the driver before and do not load with this one, each with what was
    said. Raises Problem `gpu-held` where others hold a GPU, and nothing was unloaded then.
    """
    deadline = time.monotonic() + timeout_s
    stopped = paused.stop(services, deadline)
    try:
        gpu_holders.refuse([])
        command.say(LOG, "exchanging the modules of the driver")
        why, lost = _exchange(modules, deadline)
    finally:
        command.say(LOG, "starting what had run before")
        down = paused.start(stopped, deadline)
    return {"why": why, "down": down, "lost": {} if why else lost}


def _exchange(modules: Sequence[str], deadline: float) -> tuple[str, dict[str, str]]:
    """Return what went wrong, and what did not come back; nothing is unloaded while any of the modules is in use."""
    goes = list(dict.fromkeys(_dependents(DRIVER)))
    if busy := next(filter(None, map(_busy, goes)), ""):
        return busy, {}
    failed = next(filter(None, (_modprobe("-r", name, deadline) for name in goes)), "")
    comes = dict.fromkeys((*modules, *reversed(goes)))
    wrong = {name: _modprobe("", name, deadline) for name in comes}
    if any(map(_rejected, wrong.values())):
        step = "enrol the host's key (mokutil --import, then the console at the next boot), or turn Secure Boot off"
        raise Problem("secure-boot", f"the kernel does not take the module: {wrong[DRIVER]}", step)
    lost = {name: said for name, said in wrong.items() if said and name not in modules}
    return failed or next((wrong[name] for name in modules if wrong[name]), ""), lost


def _rejected(said: str) -> bool:
    """Tell whether the kernel loads no module that has this one's signature, or none."""
    if any(text in said for text in REJECTED):
        return True
    try:
        return DENIED in said and "[none]" not in LOCKDOWN.read_text()
    except OSError:
        return False


def _dependents(name: str) -> Iterator[str]:
    """Yield the loaded modules that need a module, each before what it needs, and the module itself last."""
    if not (MODULES / name).is_dir():
        return
    for holder in _holders(name):
        yield from _dependents(holder)
    yield name


def _holders(name: str) -> list[str]:
    return sorted(path.name for path in (MODULES / name / "holders").glob("*"))


def _busy(name: str) -> str:
    """Say who uses a module beside the modules that need it; empty where nobody does."""
    try:
        count = int((MODULES / name / "refcnt").read_text())
    except (OSError, ValueError):
        return f"the kernel lets no module go ({name} has no count of its users)"
    others = count - len(_holders(name))
    return f"{name} is in use by the kernel itself ({others} users, as a display is)" if others > 0 else ""


def _modprobe(option: str, name: str, deadline: float) -> str:
    """Load a module, or with -r unload it; return why that failed, empty where it did not."""
    if option and not (MODULES / name).is_dir():
        return ""
    words = [word for word in ("modprobe", option, name) if word]
    limit_s = max(1.0, min(MODPROBE_S, deadline - time.monotonic()))
    try:
        done = subprocess.run(words, capture_output=True, text=True, errors="replace", timeout=limit_s, check=False)
    except subprocess.TimeoutExpired:
        return f"{' '.join(words)} did not end within {limit_s:.0f} s"
    said = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
    return f"{' '.join(words)}: {said}" if done.returncode else ""
