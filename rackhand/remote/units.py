"""Start and stop vllm@ units, and read their journal."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from rackhand.remote import state
from rackhand.remote.problem import Problem


def start(root: str, names: list[str], venv: str, user: str) -> float:
    """Enable and (re)start the instances; return the host's clock before, the time to read the journal from."""
    _cache(root, venv, user)
    before = time.time()
    for name in names:
        unit = f"vllm@{name}.service"
        subprocess.run(["systemctl", "reset-failed", unit], capture_output=True, check=False)
        _systemctl("enable", unit)
        _systemctl("restart", "--no-block", unit)
    return before


def stop(names: list[str]) -> None:
    """Disable and stop instances; systemd kills the control group of one that ignores SIGTERM for too long."""
    for name in names:
        _systemctl("disable", "--now", f"vllm@{name}.service")
        subprocess.run(["systemctl", "reset-failed", f"vllm@{name}.service"], capture_output=True, check=False)


def journal(name: str, since: float, lines: int = 300) -> list[str]:
    """Return the newest journal lines of an instance, from `since` (seconds since the epoch) on."""
    command = ["journalctl", "--unit", f"vllm@{name}.service", "--output", "cat", "--no-pager", "--lines", str(lines)]
    if since:
        command += ["--since", f"@{int(since)}"]
    return subprocess.run(command, capture_output=True, text=True, errors="replace", check=False).stdout.splitlines()


def _cache(root: str, venv: str, user: str) -> None:
    path = Path(root, "cache", venv)
    path.mkdir(parents=True, exist_ok=True)
    subprocess.run(["chown", f"{user}:{user}", str(path)], check=True)
    path.chmod(0o750)


def _systemctl(*arguments: str) -> None:
    done = subprocess.run(["systemctl", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        unit = arguments[-1]
        raise Problem(
            "systemctl",
            f"systemctl {' '.join(arguments)} failed",
            f"run 'systemctl status {unit}' on the host",
            done.stderr.splitlines()[-3:],
        )


def describe(name: str) -> dict[str, object]:
    """Describe one instance's unit."""
    return dict(state.unit(f"vllm@{name}.service"))
