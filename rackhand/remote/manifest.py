"""What a release says of itself: enough to start, gate and judge it on the host alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rackhand.remote import files, state, turn_files

HOST, START_TIMEOUT_S = "127.0.0.1", 900
Manifest = dict[str, Any]


class Unreadable(Exception):
    """A release whose manifest is missing or makes no sense."""


def read(base: Path, release: str) -> Manifest:
    """Return the manifest with defaults where an older one says less; raises Unreadable."""
    found = state.read_json(base / "releases" / release / "manifest.json") if release else {}
    try:
        instances = [_instance(item) for item in found["instances"]]
        needed = {name: str(found[name]) for name in ("venv", "served_name", "engine_version")}
    except (KeyError, TypeError, ValueError):
        raise Unreadable(f"release {release or '(none)'} is not on this host, or its manifest is damaged") from None
    limit_s = found.get("start_timeout_s") or START_TIMEOUT_S
    return {**needed, "host": found.get("host") or HOST, "start_timeout_s": limit_s, "instances": instances}


def _instance(item: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": str(item["name"]),
        "port": int(item["port"]),
        "gpus": list(item["gpus"]),
        "config": str(item["config"]),
        "max_model_len": item.get("max_model_len"),
        "starts_after": item.get("starts_after"),
    }


def questions(found: Manifest, instance: dict[str, Any]) -> dict[str, Any]:
    """Return what the gate wants to know of one instance; its key comes from its own process."""
    unit = state.unit(f"vllm@{instance['name']}.service")
    return {
        "name": instance["name"],
        "host": found["host"],
        "port": instance["port"],
        "model": found["served_name"],
        "version": found["engine_version"],
        "max_model_len": instance["max_model_len"],
        "key": state.variable(unit["pid"], "VLLM_API_KEY"),
    }


def standing(base: Path) -> dict[str, Any]:
    """Say where the host stands: its links (`before`), and the release that worked last (`back`), empty for none."""
    current, previous = target(base / "current"), target(base / "previous")
    back = next((each for each in (current, previous) if each and proven(base, each)), "")
    return {"back": back, "before": {"current": current, "previous": previous}}


def proven(base: Path, release: str) -> bool:
    """Tell whether a release worked here: it passed its gate, or one from before there were verdicts runs."""
    try:
        found = read(base, release)
    except Unreadable:
        return False
    said = state.read_json(base / "releases" / release / state.VERDICT).get("verdict")
    if said:
        return bool(said == "passed")
    configs = {item["name"]: item["config"] for item in found["instances"]}
    units = state.instances()
    return any(unit["active"] == "active" and unit["running_config"] == configs.get(unit["name"]) for unit in units)


def went_back(base: Path, release: str) -> bool:
    """Tell whether the host went back to a release: whoever leaves it then goes forward."""
    return bool(release) and bool(state.read_json(base / "releases" / release / state.VERDICT).get("back"))


def judge(base: Path, release: str, verdict: dict[str, Any]) -> None:
    """Write a release's verdict beside it: {verdict, run, at, back, instances: {name: {start_s}}}.

    Of instances that were not started this time, the start of before is kept.
    """
    place = base / "releases" / release
    before = state.read_json(place / state.VERDICT).get("instances") or {}
    instances = {**before, **{name: each for name, each in verdict["instances"].items() if each["start_s"] is not None}}
    if place.is_dir():
        files.write(place / state.VERDICT, turn_files.text({**verdict, "instances": instances}), turn_files.PRIVATE)
        files.settle(place)


def target(link: Path) -> str:
    """Name the release that `current` or `previous` points to; empty without one."""
    return link.readlink().name if link.is_symlink() else ""
