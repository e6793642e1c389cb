"""Find and end the processes of a fleet by what they are, not by what a pid file once said."""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

END_TIMEOUT_S = 15.0


def arguments(pid: int) -> list[str]:
    """Return the argument vector of `pid`; empty when it is gone or a zombie."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
    except (FileNotFoundError, ProcessLookupError):
        return []


def with_argument(prefix: str) -> list[int]:
    """Return the processes with an argument that begins with `prefix`."""
    return [pid for pid in _pids() if any(word.startswith(prefix) for word in arguments(pid))]


def children(pid: int) -> list[int]:
    """Return the direct children of `pid`."""
    return listed(Path(f"/proc/{pid}/task/{pid}/children"))


def listed(file: Path) -> list[int]:
    """Return the process ids in a file of the kernel, none if it is gone."""
    try:
        return [int(word) for word in file.read_text().split()]
    except OSError:
        return []


def age_s(pid: int) -> float | None:
    """Return the seconds since `pid` was started, or None when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    since_boot_s = float(Path("/proc/uptime").read_text().split()[0])
    return since_boot_s - int(fields[19]) / os.sysconf("SC_CLK_TCK")


def end(find: Callable[[], list[int]]) -> None:
    """Kill what `find` finds, and again what it finds then, until it finds nothing."""
    deadline = time.monotonic() + END_TIMEOUT_S
    while (pids := find()) and time.monotonic() < deadline:
        for pid in pids:
            kill(pid)
        time.sleep(0.02)


def kill(pid: int) -> None:
    """Send SIGKILL to one process, which may be gone already."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _pids() -> Iterator[int]:
    return (int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit())
