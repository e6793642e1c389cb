"""What on this host still refers to releases, environments, weights and programs of ours. Read-only."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from rackhand.remote import state

PROC = Path("/proc")
# Where orders are: a release that an open one names is needed, whatever else it says.
PROGRESS = "turn/progress.json"
CHANGE = "driver/change.json"
KINDS = ("releases", "venvs", "models", "program", "driver")
# A release that never passed its gate is nothing to go back to: it counts as older than any that did.
NEVER = 0.0


def releases(base: Path) -> list[Path]:
    """Return the directories of releases; links and half-made ones are none."""
    return [path for path in sorted(base.glob("releases/[!.]*")) if path.is_dir() and not path.is_symlink()]


def needed(base: Path, keep: int) -> dict[str, set[str]]:
    """Return what must stay, by kind: releases, venvs, models, program, driver (sets of its packages).

    Releases stay that `current`, `previous`, an open order or a running process needs, and of the others as many of
    those that were used last as make up `keep` with them. Of everything else stays what these, or a process, refer to.
    """
    processes = _processes(base)
    named = {kind: {name for process in processes for name in process[kind]} for kind in KINDS}
    found = {path.name: path for path in releases(base)}
    wanted = {_target(base / "current"), _target(base / "previous"), *_ordered(base), *named["releases"]}
    kept = wanted & found.keys()
    running = {config for process in processes for config in process["configs"]}
    kept |= _running(found, kept, running)
    for name in sorted(found.keys() - kept, key=lambda name: last_used(found[name]), reverse=True):
        if len(kept) < keep:
            kept.add(name)
    strangers = running - {config for release in found.values() for config in _configs(release)}
    return {
        "releases": kept | wanted,
        "venvs": named["venvs"] | _parts(base, found, kept, "venv"),
        # Nobody can tell which weights a process reads whose release is not here.
        "models": named["models"] | (_all(base, "models") if strangers else _parts(base, found, kept, "model")),
        "program": named["program"] | _programs(base),
        "driver": named["driver"] | _drivers(base, found, kept),
    }


def last_used(release: Path) -> tuple[float, float]:
    """Say when a release passed its gate last and when it was made, in seconds since the epoch."""
    verdict = state.read_json(release / state.VERDICT)
    made = _mtime(release / "manifest.json")
    if verdict.get("verdict") == "failed":
        return NEVER, made
    at = verdict.get("at")
    return (float(at) if isinstance(at, (int, float)) else _mtime(release / "measured.json")), made


def _parts(base: Path, found: dict[str, Path], kept: set[str], part: str) -> set[str]:
    """Name the environments (or the weights) of the kept releases; all there are where a release does not say."""
    names = set()
    for release in (found[name] for name in kept):
        own = {_target(release / part), str(state.read_json(release / "manifest.json").get(part) or "")} - {""}
        names |= own or _all(base, f"{part}s")
    return names


def _drivers(base: Path, found: dict[str, Path], kept: set[str]) -> set[str]:
    """Name the sets of the last change of the driver, and those of the versions on which the kept releases ran.

    All of them where no change was written down, or a release does not say.
    """
    change = state.read_json(base / CHANGE)
    names = {str(change.get(name) or "") for name in ("from", "to", "previous")} - {""}
    versions = {str(state.read_json(found[name] / "manifest.json").get("driver") or "") for name in kept}
    unknown = not names or "" in versions
    return {name for name in _all(base, "driver") if unknown or name in names or name.rpartition("-")[0] in versions}


def _all(base: Path, kind: str) -> set[str]:
    return {path.name for path in base.glob(f"{kind}/*")}


def _programs(base: Path) -> set[str]:
    """Name the program that `current.pyz` is, and all of them while one may be at work on an order."""
    return _all(base, "program") if (base / state.ORDER).exists() else {_target(base / "program" / "current.pyz")}


def _ordered(base: Path) -> set[str]:
    """Name every release that an open order mentions in whatever field, even where the file is damaged."""
    text = " ".join(_text(base / name) for name in (state.ORDER, PROGRESS)) if (base / state.ORDER).exists() else ""
    return set(re.findall(r"\b[0-9a-f]{12}\b", text))


def _running(found: dict[str, Path], kept: set[str], configs: set[str]) -> set[str]:
    """Name a release for each running configuration: one that is kept anyway, else the one that was used last."""
    newest = sorted(found, key=lambda name: (name in kept, last_used(found[name])), reverse=True)
    own = {name: _configs(found[name]) for name in newest}
    return {name for name in (next((name for name in newest if config in own[name]), "") for config in configs) if name}


def _configs(release: Path) -> set[str]:
    listed = state.read_json(release / "manifest.json").get("instances")
    items: list[Any] = listed if isinstance(listed, list) else []
    return {str(item.get("config", "")) for item in items if isinstance(item, dict)} - {""}


def _processes(base: Path) -> list[dict[str, set[str]]]:
    """Return for each process of ours its configuration, and what it was told of, runs from or has mapped, by kind."""
    roots = "|".join(re.escape(str(path)) for path in {base, base.resolve()})
    below = re.compile(rf"(?:{roots})/({'|'.join(KINDS)})/([^/\s\0:\"']+)")
    config = re.compile(rf"(?:^|\0){state.CONFIG_VARIABLE}=([^\0]+)")
    found = []
    for process in PROC.glob("[0-9]*"):
        environment = _text(process / "environ")
        told = "\0".join((_text(process / "cmdline"), *_links(process), environment))
        own = set(config.findall(environment))
        if own or below.search(told):
            pairs = below.findall(f"{told}\0{_text(process / 'maps')}")
            named = {kind: {name for each, name in pairs if each == kind} for kind in KINDS}
            found.append({"configs": own, **named})
    return found


def _links(process: Path) -> list[str]:
    found = []
    for name in ("exe", "cwd"):
        try:
            found.append(str((process / name).readlink()))
        except OSError:
            continue
    return found


def _target(link: Path) -> str:
    return link.readlink().name if link.is_symlink() else ""


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode(errors="replace")
    except OSError:
        return ""


def _mtime(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return NEVER
