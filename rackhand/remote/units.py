"""Start and stop vllm@ units, and read their journal."""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
from itertools import islice
from pathlib import Path
from typing import Any

from rackhand.remote import state
from rackhand.remote.problem import Problem

LINES = 600
# Longest wait for the journal, in seconds.
JOURNAL_S = 30


def start(root: str, names: list[str], venv: str, user: str) -> dict[str, Any]:
    """Enable and (re)start the instances; return the host's clock before, and the invocations that must be gone."""
    _cache(root, venv, user)
    since = time.time()
    before = {name: describe(name)["invocation"] for name in names}
    units = [_unit(name) for name in names]
    _quietly("reset-failed", *units)
    enable(names)
    _systemctl("restart", "--no-block", *units)
    for name in names:
        (Path(root) / state.OWED / name).unlink(missing_ok=True)
    return {"since": since, "before": before}


def enable(names: list[str]) -> None:
    """Let the instances start at boot; what runs goes on."""
    missing = [_unit(name) for name in names if not enabled(name)]
    if missing:
        _systemctl("enable", *missing)


def enabled(name: str) -> bool:
    """Tell whether an instance starts at boot."""
    return (state.WANTS / _unit(name)).is_symlink()


def stop(names: list[str], timeout_s: float, disable: bool = False) -> None:
    """Stop instances, where wished also at boot; systemd kills what ignores SIGTERM for too long.

    Where systemd itself is late, what remains is seen by whoever looks for processes afterwards.
    """
    units = [_unit(name) for name in names]
    for unit in units if disable else ():
        (state.WANTS / unit).unlink(missing_ok=True)
    _quietly("stop", *units, timeout_s=timeout_s)
    _quietly("reset-failed", *units)


def kill(names: list[str]) -> None:
    """Take all processes of instances away that nobody is served by; systemd starts none of them again."""
    units = [_unit(name) for name in names]
    _quietly("stop", "--no-block", *units)
    _quietly("kill", "--signal", "SIGKILL", *units)


def describe(name: str) -> dict[str, Any]:
    """Describe one instance's unit."""
    return state.unit(_unit(name))


def journal(name: str, since: float = 0.0, without: str = "", only: str = "") -> list[str]:
    """Return the newest journal lines of an instance.

    `since` is in seconds since the epoch; `without` leaves out one invocation, whose last words are no news, and
    `only` keeps one.
    """
    _sync()
    command = ["journalctl", "--unit", _unit(name), "--output", "json", "--no-pager", "--lines", str(LINES)]
    command += ["--output-fields", "MESSAGE,_SYSTEMD_INVOCATION_ID,INVOCATION_ID"]
    if since:
        command += ["--since", f"@{since:.6f}"]
    shown = _output(command)
    entries = [json.loads(line) for line in shown.splitlines()]
    return [_message(entry) for entry in entries if _invocation(entry) != without and only in ("", _invocation(entry))]


def beginning(invocation: str, lines: int, last: str = "") -> list[str]:
    """Return the first journal lines of one start, at most to the one that holds `last`, however long ago it was."""
    _sync()
    command = ["journalctl", f"_SYSTEMD_INVOCATION_ID={invocation}", "--output", "cat", "--no-pager"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as shown:
        found = []
        for raw in islice(shown.stdout or (), lines):
            found.append(raw.decode(errors="replace").rstrip("\n"))
            if last and last in found[-1]:
                break
        shown.terminate()
    return found


def _sync() -> None:
    with contextlib.suppress(subprocess.TimeoutExpired):
        subprocess.run(["journalctl", "--sync"], capture_output=True, timeout=JOURNAL_S, check=False)


def _output(command: list[str]) -> str:
    """Return what a command says; nothing where it takes too long."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=JOURNAL_S, check=False)
    except subprocess.TimeoutExpired:
        return ""
    return done.stdout


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
    subprocess.run(["chown", f"{user}:{user}", str(path)], timeout=state.ANSWER_S, check=True)
    path.chmod(0o750)


def _unit(name: str) -> str:
    return f"vllm@{name}.service"


def _systemctl(*arguments: str) -> None:
    try:
        done = subprocess.run(
            ["systemctl", *arguments], capture_output=True, text=True, timeout=state.ANSWER_S, check=False
        )
        status, said = done.returncode, done.stderr.splitlines()
    except subprocess.TimeoutExpired:
        status, said = 1, [f"no answer within {state.ANSWER_S} s"]
    if status:
        what, unit = f"systemctl {' '.join(arguments)} failed", arguments[-1]
        raise Problem("systemctl", what, f"run 'systemctl status {unit}' on the host", said[-3:])


def _quietly(*arguments: str, timeout_s: float = state.ANSWER_S) -> None:
    """Ask systemd for what may fail: its effect is looked for elsewhere."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        subprocess.run(["systemctl", *arguments], capture_output=True, timeout=timeout_s, check=False)
