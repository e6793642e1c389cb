"""The releases that lie on this host: what each is, and which are thrown away."""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rackhand.remote import command, files, references, state
from rackhand.remote.problem import Problem

LOG = "shelf"
DIGEST = re.compile(r"[0-9a-f]{12}")
# What we name things; whatever else lies there is not ours.
NAMES = {
    "releases": DIGEST,
    "venvs": re.compile(r"[0-9a-f]{12}(?:\.txt)?"),
    "models": re.compile(r"[^.].*@.+"),
    "driver": re.compile(r"[^.].*-[0-9a-f]{12}"),
    "program": re.compile(r"[^.].*\.pyz"),
    "cache": DIGEST,
    "incoming": re.compile(r"[^.].*"),
}
# What a file or directory is renamed to before it is deleted, and what half-made ones are called.
DYING = ".{}.rackhand-old"
LEFTOVER = re.compile(r"\.(.+)\.rackhand-(?:new|old)")
STALE_UPLOAD_S = 86_400
MIB, BLOCK = 1 << 20, 512


def records(root: str) -> list[dict[str, Any]]:
    """Describe every release whose manifest can be read; `missing` is empty for those that are complete."""
    found = []
    for path in references.releases(Path(root)):
        try:
            found.append(record(path))
        except (KeyError, TypeError, ValueError):
            continue  # not a manifest that we wrote
    return found


def record(release: Path) -> dict[str, Any]:
    """Return the manifest with its defaults (schema 1 lacks some), the verdict, and when it was used last.

    Raises KeyError, TypeError or ValueError where the manifest makes no sense.
    """
    manifest = state.read_json(release / "manifest.json")
    verdict = state.read_json(release / state.VERDICT)
    known = ("engine_version", "venv", "model", "driver", "served_name", "unit_sha256")
    model = str(manifest.get("model", ""))
    passed, made = references.last_used(release)
    return {
        "id": release.name,
        **{name: str(manifest.get(name) or "") for name in known},
        "model_revision": str(manifest.get("model_revision") or model.rpartition("@")[2]),
        "host": str(manifest.get("host") or "127.0.0.1"),
        "start_timeout_s": manifest.get("start_timeout_s") or 900,
        "request_timeout_s": manifest.get("request_timeout_s") or 60,
        "instances": [_instance(item) for item in manifest["instances"]],
        "settings": manifest.get("settings") or {},
        "verdict": str(verdict.get("verdict") or ""),
        "run": str(verdict.get("run") or ""),
        "back": str(verdict.get("back") or ""),
        "when": verdict.get("at") or passed or made,
        "start_s": {name: item.get("start_s") for name, item in (verdict.get("instances") or {}).items()},
        "missing": _missing(release),
        "edited": state.edited(release),
    }


def _instance(item: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": str(item["name"]),
        "port": int(item["port"]),
        "gpus": list(item["gpus"]),
        "config": str(item["config"]),
        "max_model_len": item.get("max_model_len"),
        "starts_after": item.get("starts_after"),
    }


def _missing(release: Path) -> str:
    """Name the first thing that the release needs and that is not there."""
    there = {
        "its environment": (release / "venv" / "rackhand.json").is_file(),
        "its weights": state.intact(release / "model"),
        "its unit": (release / state.UNIT.name).is_file(),
    }
    return next((words for words, fine in there.items() if not fine), "")


def collect(root: str, keep: int) -> dict[str, Any]:
    """Throw away what no release that is kept refers to; return the names that went and how many MiB that freed.

    Nothing is touched while an installation or a download of an earlier run is still at work.
    """
    try:
        found: dict[str, Any] = _sweep(root=root, keep=keep, timeout_s=0)
    except Problem:
        return {"releases": [], "venvs": [], "models": [], "driver": [], "mib": 0}
    return found


@command.alone(LOG)
def _sweep(root: str, keep: int, timeout_s: int) -> dict[str, Any]:
    base = Path(root)
    needed = references.needed(base, keep)
    size = sum(_dropped(path) for path in _leftovers(base, needed))
    gone: dict[str, Any] = {}
    for kind in references.KINDS:
        doomed = [path for path in _own(base, kind) if _owner(path) not in needed[kind]]
        gone[kind] = sorted({_owner(path) for path in doomed})
        size += sum(_dropped(path) for path in doomed)
    rest = [path for path in _own(base, "cache") if path.name not in needed["venvs"]]
    rest += [path for path in _own(base, "incoming") if _newest(path) < time.time() - STALE_UPLOAD_S]
    size += sum(_dropped(path) for path in (*rest, *(_unshared(base) if gone["venvs"] else ())))
    told = ("releases", "venvs", "models", "driver")
    return {**{kind: gone[kind] for kind in told}, "mib": size // MIB}


def _own(base: Path, kind: str) -> list[Path]:
    """List what we put into one of our folders; where that is a link, it leads elsewhere, and so do links in it."""
    folder = base / kind
    if folder.is_symlink() or not folder.is_dir():
        return []
    return [path for path in sorted(folder.iterdir()) if not path.is_symlink() and NAMES[kind].fullmatch(path.name)]


def _owner(path: Path) -> str:
    """Name what a file belongs to: the requirements of an environment lie beside it, as <digest>.txt."""
    return path.stem if path.suffix == ".txt" else path.name


def _leftovers(base: Path, needed: dict[str, set[str]]) -> Iterator[Path]:
    """Yield what interrupted deeds left behind, but not the only copy of what is needed."""
    for kind in NAMES:
        folder = base / kind
        for path in sorted(folder.iterdir()) if folder.is_dir() and not folder.is_symlink() else ():
            name = LEFTOVER.fullmatch(path.name)
            only = name and name[1] in needed.get(kind, ()) and not (folder / name[1]).exists()
            if name and not only and not path.is_symlink():
                yield path


def _unshared(base: Path) -> list[Path]:
    """List the unpacked packages in uv's cache of which no environment has a file; uv can fetch them again.

    Where no package at all has a file in common with an environment, uv copied them, and nobody can tell.
    """
    archives = [path for path in (base / "cache" / "uv").glob("archive-v*/*") if not path.is_symlink()]
    alone = [
        path for path in archives if not any(stat.S_ISREG(each.st_mode) and each.st_nlink > 1 for each in _stats(path))
    ]
    return alone if len(alone) < len(archives) else []


def _dropped(path: Path) -> int:
    """Delete and return the bytes; by its name nobody ever finds half of it, because it is renamed first."""
    dying = path if LEFTOVER.fullmatch(path.name) else path.with_name(DYING.format(path.name))
    try:
        if dying != path:
            _delete(dying)
            path.rename(dying)
        size = _freed(dying)
        _delete(dying)
    except OSError:
        return 0  # a mount, or a file that somebody made immutable: the next run tries again
    return size


def _delete(path: Path) -> None:
    if path.is_dir():
        files.remove_tree(path)
    else:
        path.unlink(missing_ok=True)


def _freed(path: Path) -> int:
    """Count the bytes that deleting frees: a file that has a second name elsewhere frees none."""
    return sum(each.st_blocks * BLOCK for each in _stats(path) if each.st_nlink < 2 or stat.S_ISDIR(each.st_mode))


def _newest(path: Path) -> float:
    return max((each.st_mtime for each in _stats(path)), default=time.time())


def _stats(path: Path) -> Iterator[os.stat_result]:
    """Yield what the disk says of everything below; what goes meanwhile is passed over."""
    for place in (path, *path.rglob("*")):
        try:
            yield place.lstat()
        except FileNotFoundError:
            continue
