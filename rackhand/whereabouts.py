"""Where a run's process lives, so that a later run on the same machine can tell that it is dead."""

import os
from contextlib import suppress
from pathlib import Path

BOOT = Path("/proc/sys/kernel/random/boot_id")
NAMESPACE = Path("/proc/self/ns/pid")


def here() -> str:
    """Name this boot of this machine and its process table; empty where the system does not say."""
    with suppress(OSError):
        return f"{BOOT.read_text().strip()} {NAMESPACE.readlink()}"
    return ""


def ended(place: str, pid: int) -> bool:
    """Tell whether a process that lived at `place` is surely dead: its table is ours, and has no such process."""
    if not place or place != here() or pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False
