"""Put a rendered release onto the host and point `current` to it; both are complete or did not happen."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from rackhand.remote import files, measured, options, state
from rackhand.remote.problem import Problem

UNIT = Path("/etc/systemd/system/vllm@.service")


def place(
    root: str, release: str, content: dict[str, dict[str, Any]], venv: str, model: str, timeout_s: int
) -> dict[str, bool]:
    """Write releases/<release> from {path: {text, mode}}; one rename makes it visible.

    Where it was there and a hand had changed it, the instances concerned are owed a restart.
    Returns whether vLLM's own parser could be asked; raises Problem `engine-options` or `unit-invalid`.
    """
    final = Path(root, "releases", release)
    staging, spoilt = final.with_name(f".{release}.rackhand-new"), final.with_name(f".{release}.rackhand-old")
    files.remove_tree(staging)
    files.remove_tree(spoilt)
    for path, item in sorted(content.items(), key=lambda pair: pair[0] == "manifest.json"):
        files.write(staging / path, item["text"], item["mode"])
    (staging / "venv").symlink_to(f"../../venvs/{venv}")
    (staging / "model").symlink_to(f"../../models/{model}")
    files.write(staging / state.PLACED, json.dumps(state.digests(staging), sort_keys=True) + "\n", 0o600)
    _verify(staging)
    python = f"{root}/venvs/{venv}/bin/python"
    checked = options.check(python, sorted(staging.glob("instances/*.yaml")), Path(root, "cache", "options"), timeout_s)
    if final.exists():
        owe(root, _differing(final, content))
        measured.carry(final, staging)
        final.rename(spoilt)
    staging.rename(final)
    files.remove_tree(spoilt)
    return {"options_checked": checked}


def owe(root: str, names: list[str]) -> None:
    """Remember on disk that instances need a restart, so that an interrupted run cannot forget it."""
    for name in names:
        files.write(Path(root) / state.OWED / name, "")


def _differing(release: Path, content: dict[str, dict[str, Any]]) -> list[str]:
    """Name the instances whose files are not what they should be."""
    wrong = set()
    for path, item in content.items():
        place = release / path
        if path.startswith("instances/") and not (place.is_file() and place.read_text() == item["text"]):
            wrong.add(place.stem)
    return sorted(wrong)


def _verify(release: Path) -> None:
    """Let systemd judge the unit as it stands alone, and with what single instances add to it."""
    names = ["vllm@probe.service", *(path.parent.name[:-2] for path in release.glob(state.DROP_INS))]
    probes = [release / name for name in names]
    for probe in probes:
        probe.symlink_to(UNIT.name)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *map(str, probes)], capture_output=True, text=True, check=False
    )
    for probe in probes:
        probe.unlink()
    complaints = [line for line in done.stderr.splitlines() if "vllm@" in line and "is not executable" not in line]
    if complaints:
        raise Problem(
            "unit-invalid",
            "systemd does not accept the rendered unit",
            "this is a fault of the template; nothing was switched",
            complaints,
        )


def switch(root: str, release: str) -> None:
    """Make `release` the current one, remember the one before, and install its unit file."""
    base = Path(root)
    target = f"releases/{release}"
    before = str((base / "current").readlink()) if (base / "current").is_symlink() else ""
    if before and before != target:
        files.link(base / "previous", before)
    files.link(base / "current", target)
    again = before == target
    renewed = files.write(UNIT, (base / target / UNIT.name).read_text())
    own = _install_drop_ins(base / target)
    if renewed and again:
        owe(root, [path.stem for path in (base / target / "instances").glob("*.env")])
    elif again:
        owe(root, own)
    if renewed or own:
        subprocess.run(["systemctl", "daemon-reload"], check=True)


def _install_drop_ins(release: Path) -> list[str]:
    """Make the drop-ins of ours those of the release; return the names of the instances where that changed any."""
    wanted = {str(path.relative_to(release)): path.read_text() for path in release.glob(state.DROP_INS)}
    there = {str(path.relative_to(UNIT.parent)) for path in UNIT.parent.glob(state.DROP_INS)}
    changed = [place for place, text in wanted.items() if files.write(UNIT.parent / place, text)]
    for place in there - wanted.keys():
        (UNIT.parent / place).unlink()
        changed.append(place)
    return sorted(state.instance_of(place) for place in changed)
