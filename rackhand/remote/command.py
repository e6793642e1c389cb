"""Run a long command with its output in a log file, so that the controller can show what is being waited for."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

LOGS = Path("/var/log/rackhand")


def run(
    arguments: Sequence[str], log: str, timeout_s: int, environment: Mapping[str, str] | None = None
) -> tuple[int, list[str]]:
    """Run to the end and return the exit status and the output's last 40 lines; the whole output stays in the log.

    A status of 124 means that `timeout_s` passed; the whole process group was killed then.
    """
    LOGS.mkdir(parents=True, exist_ok=True)
    path = LOGS / f"{log}.log"
    with path.open("wb") as output:
        process = subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "LC_ALL": "C.UTF-8", **(environment or {})},
            start_new_session=True,
        )
        try:
            status = process.wait(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            process.wait()
            status = 124
    return status, tail(path)


def tail(path: Path, lines: int = 40) -> list[str]:
    """Return the last lines of a log, progress bars (carriage returns) resolved to their last state."""
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - 32_768))
        text = stream.read().decode(errors="replace")
    return [line.rsplit("\r", 1)[-1].rstrip() for line in text.splitlines() if line.strip()][-lines:]


def read(log: str) -> list[str]:
    """Return every line of a finished command's log."""
    return (LOGS / f"{log}.log").read_text(errors="replace").splitlines()


def progress(log: str) -> str:
    """Return the newest line of a running command's log; empty when there is none yet."""
    path = LOGS / f"{log}.log"
    return (tail(path, 1) or [""])[0][:160] if path.exists() else ""
