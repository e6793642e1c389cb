"""What the benchmarks on practice hosts share: time and CPU of a command, sessions that sshd saw, tables."""

import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rackhand.lab.host import LabHost

CHECKOUT = Path(__file__).resolve().parents[1]
SESSION, CONNECTION = "Starting session", "Accepted publickey"


@dataclass(frozen=True, kw_only=True)
class Spent:
    """What a command took: CPU is its own and that of all it waited for on this machine, never the hosts'."""

    wall_s: float
    cpu_s: float
    peak_mib: int
    status: int


def spend(command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None) -> Spent:
    """Run a command in the checkout to its end, its output in `log`."""
    begun = time.monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=CHECKOUT,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return Spent(
        wall_s=time.monotonic() - begun,
        cpu_s=usage.ru_utime + usage.ru_stime,
        peak_mib=usage.ru_maxrss >> 10,
        status=process.returncode,
    )


def require(spent: Spent, log: Path, what: str) -> Spent:
    """End this program with the end of the log where a command failed."""
    if spent.status:
        sys.exit(f"{log.read_text(errors='replace')[-4000:]}\n{what} ended with status {spent.status}")
    return spent


def heard(host: LabHost, words: str = SESSION) -> int:
    """Count in a host's own journal the sessions or connections that its sshd ever started."""
    journal = ["journalctl", "--identifier=sshd", "--output=cat", "--no-pager"]
    return host.run(journal).stdout.count(words)


def machine(load: float) -> dict[str, Any]:
    """Say when and where figures were taken; `load` is the machine's before the first of them."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "cores": os.cpu_count(),
        "memory_gib": round(pages / 2**30),
        "load_before": round(load, 1),
        "kernel": platform.release(),
    }


def place(load: float) -> str:
    """Say the same in one line."""
    about = machine(load)
    return f"{about['date']}, {about['cores']} cores, {about['memory_gib']} GiB, load before {about['load_before']}"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    return "\n".join(f"| {' | '.join(line)} |" for line in (columns, ["---"] * len(columns), *rows))


def spread(values: Sequence[float], digits: int = 1) -> str:
    """Return the median and, where they differ, the least and the most: `3.7 (3.6-4.1)`."""
    middle, least, most = (f"{value:.{digits}f}" for value in (statistics.median(values), min(values), max(values)))
    return middle if least == most else f"{middle} ({least}-{most})"
