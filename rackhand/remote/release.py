"""Put a rendered release onto the host and point `current` to it; both are complete or did not happen."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

from rackhand.remote import files, measured, options, state
from rackhand.remote.problem import Problem

UNIT = Path("/etc/systemd/system/vllm@.service")
# Longest wait for systemd to read all units, in seconds.
RELOAD_S = 90


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
        _carry(final, staging)
        final.rename(spoilt)
    staging.rename(final)
    files.settle(final.parent)
    files.remove_tree(spoilt)
    return {"options_checked": checked}


def owe(root: str, names: list[str]) -> None:
    """Remember on disk that instances need a restart, so that an interrupted run cannot forget it."""
    for name in names:
        files.write(Path(root) / state.OWED / name, "")


def _carry(old: Path, new: Path) -> None:
    """Take along what was found out about a release where its directory is replaced by one with the same content."""
    for name in (measured.RECORD, state.VERDICT):
        if (old / name).is_file():
            shutil.copy2(old / name, new / name)


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


def install(root: str, release: str, previous: str, reload: bool = False) -> None:
    """Make `release` the current one and `previous` (empty for none) the one before, and install its units.

    Where it was the current one and a hand had changed its units, the instances concerned are owed a restart.
    `reload` lets systemd read its units even if none changed: a program that was killed may have left that to do.
    Everything survives a power cut when this returns.
    """
    base, own = Path(root), _units(Path(root, "releases", release))
    there = _units(UNIT.parent)
    changed = sorted(place for place in {*own, *there} if own.get(place) != there.get(place))
    if _named(base / "current") == release:
        owe(root, _concerned(changed, [path.stem for path in Path(root, "current", "instances").glob("*.env")]))
    _remember(base / "previous", previous if previous != release else "")
    files.link(base / "current", f"releases/{release}")
    files.settle(base)
    for place in changed:
        _put(UNIT.parent / place, own.get(place))
    if changed or reload:
        _reload()


def _units(folder: Path) -> dict[str, str]:
    """Return the texts of the unit and of the drop-ins of single instances, by their places."""
    places = [folder / UNIT.name, *folder.glob(state.DROP_INS)]
    return {str(path.relative_to(folder)): path.read_text() for path in places if path.is_file()}


def _concerned(changed: list[str], names: list[str]) -> list[str]:
    """Name the instances whose units these files are; the unit is that of all of them."""
    return names if UNIT.name in changed else [state.instance_of(place) for place in changed]


def _put(path: Path, text: str | None) -> None:
    if text is None:
        path.unlink()
        return
    files.write(path, text)
    files.settle(path.parent)


def remove(root: str, previous: str) -> None:
    """Have no current release any more."""
    base = Path(root)
    _remember(base / "previous", previous)
    (base / "current").unlink(missing_ok=True)
    files.settle(base)


def _remember(link: Path, release: str) -> None:
    if release:
        files.link(link, f"releases/{release}")
    else:
        link.unlink(missing_ok=True)


def _named(link: Path) -> str:
    return link.readlink().name if link.is_symlink() else ""


def _reload() -> None:
    """Let systemd read its unit files, once they are safe from a power cut."""
    files.settle(UNIT.parent)
    try:
        subprocess.run(["systemctl", "daemon-reload"], capture_output=True, timeout=RELOAD_S, check=True)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        next_step = "run 'systemctl daemon-reload' on the host and see what it says"
        raise Problem("systemctl", f"systemctl did not read the units again: {error}", next_step) from None
