"""Start and stop vllm@ units, and read their journal."""

from __future__ import annotations

import json
import subprocess
import time
from itertools import islice
from pathlib import Path
from typing import Any

from rackhand.remote import state
from rackhand.remote.problem import Problem

LINES = 600


def start(root: str, names: list[str], venv: str, user: str) -> dict[str, Any]:
    """Enable and (re)start the instances; return the host's clock before, and the invocations that must be gone."""
    _cache(root, venv, user)
    since = time.time()
    before = {name: describe(name)["invocation"] for name in names}
    for name in names:
        unit = f"vllm@{name}.service"
        subprocess.run(["systemctl", "reset-failed", unit], capture_output=True, check=False)
        _systemctl("enable", unit)
        _systemctl("restart", "--no-block", unit)
        (Path(root) / state.OWED / name).unlink(missing_ok=True)
    return {"since": since, "before": before}


def enable(names: list[str]) -> None:
    """Let the instances start at boot; what runs goes on."""
    for name in names:
        _systemctl("enable", f"vllm@{name}.service")


def stop(names: list[str]) -> None:
    """Disable and stop instances; systemd kills the control group of one that ignores SIGTERM for too long."""
    for name in names:
        _systemctl("disable", "--now", f"vllm@{name}.service")
        subprocess.run(["systemctl", "reset-failed", f"vllm@{name}.service"], capture_output=True, check=False)


def describe(name: str) -> dict[str, Any]:
    """Describe one instance's unit."""
    return state.unit(f"vllm@{name}.service")


def journal(name: str, since: float = 0.0, without: str = "", only: str = "") -> list[str]:
    """Return the newest journal lines of an instance.

    `since` is in seconds since the epoch; `without` leaves out one invocation, whose last words are no news, and
    `only` keeps one.
    """
    subprocess.run(["journalctl", "--sync"], capture_output=True, check=False)
    command = ["journalctl", "--unit", f"vllm@{name}.service", "--output", "json", "--no-pager", "--lines", str(LINES)]
    command += ["--output-fields", "MESSAGE,_SYSTEMD_INVOCATION_ID,INVOCATION_ID"]
    if since:
        command += ["--since", f"@{since:.6f}"]
    shown = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False).stdout
    entries = [json.loads(line) for line in shown.splitlines()]
    return [_message(entry) for entry in entries if _invocation(entry) != without and only in ("", _invocation(entry))]


def beginning(invocation: str, lines: int, last: str = "") -> list[str]:
    """Return the first journal lines of one start, at most to the one that holds `last`, however long ago it was."""
    subprocess.run(["journalctl", "--sync"], capture_output=True, check=False)
    command = ["journalctl", f"_SYSTEMD_INVOCATION_ID={invocation}", "--output", "cat", "--no-pager"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as shown:
        found = []
        for raw in islice(shown.stdout or (), lines):
            found.append(raw.decode(errors="replace").rstrip("\n"))
            if last and last in found[-1]:
                break
        shown.terminate()
    return found


def _invocation(entry: dict[str, Any]) -> str:
    """Return which start a line belongs to: the process's own, or the one that systemd speaks about."""
    return str(entry.get("INVOCATION_ID") or entry.get("_SYSTEMD_INVOCATION_ID") or "-")


def _message(entry: dict[str, Any]) -> str:
    """Return a line's text; journald gives it as numbers where it holds control characters."""
    message = entry.get("MESSAGE") or ""
    return bytes(message).decode(errors="replace") if isinstance(message, list) else str(message)


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
