"""Put the host's own program and the units that run it onto the host."""

from __future__ import annotations

import base64
import subprocess
from pathlib import Path

from rackhand.remote import files, state
from rackhand.remote.problem import Problem

SYSTEMCTL_S = 90
# What runs for ever and may begin anew at any time.
LASTING = ("rackhand-hardware.service",)


def install(root: str, digest: str, data: str, units: dict[str, str]) -> bool:
    """Write program/<digest>.pyz (`data` in base64) and the units by their names; return whether anything changed.

    A program that is at work keeps its own file; the sweep takes older ones away when nobody needs them any more.
    What listens is started, and what runs with an older program begins anew, except the one that carries out orders.
    """
    place = Path(root, state.PROGRAM_LINK)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.parent.chmod(0o755)
    renewed = files.write(place.with_name(f"{digest}.pyz"), base64.b64decode(data))
    renewed = files.link(place, f"{digest}.pyz") or renewed
    files.settle(place.parent)
    changed = [name for name, text in sorted(units.items()) if files.write(state.UNIT.parent / name, text)]
    if changed:
        files.settle(state.UNIT.parent)
        _systemctl("daemon-reload")
    _listen([name for name in units if name.endswith(".socket")], changed, renewed)
    for name in LASTING:
        if name in units and (renewed or name in changed):
            _systemctl("try-restart", name)
    return bool(changed) or renewed


def _listen(sockets: list[str], changed: list[str], renewed: bool) -> None:
    """Have every socket open, at the port that its unit says now, and the newest program behind it."""
    for name in sockets:
        service = name.replace(".socket", ".service")
        if name in changed:
            # systemd does not move a socket while its service runs.
            _systemctl("stop", service, name)
        if changed or not _active(name):
            _systemctl("enable", name)
            _systemctl("start", name)
        if renewed or service in changed:
            _systemctl("try-restart", service)


def _active(unit: str) -> bool:
    done = subprocess.run(["systemctl", "is-active", "--quiet", unit], timeout=SYSTEMCTL_S, check=False)
    return done.returncode == 0


def _systemctl(*words: str) -> None:
    try:
        done = subprocess.run(["systemctl", *words], capture_output=True, text=True, timeout=SYSTEMCTL_S, check=False)
        status, said = done.returncode, done.stderr.splitlines()
    except subprocess.TimeoutExpired:
        status, said = 1, [f"no answer within {SYSTEMCTL_S} s"]
    if status:
        next_step = f"run 'systemctl status {words[-1]}' on the host"
        raise Problem("systemctl", f"systemctl {' '.join(words)} failed", next_step, said[-3:])
