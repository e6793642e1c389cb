"""Who occupies this host's ports and GPUs now, and who of them must give way to whom."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rackhand.remote import manifest, state, units

QUIET = ("inactive", "failed")
Instance = dict[str, Any]


def here() -> dict[str, dict[str, Any]]:
    """Return the units of instances that run, or would at boot, by name."""
    return {unit["name"]: unit for unit in state.instances() if runs(unit) or units.enabled(unit["name"])}


def runs(unit: dict[str, Any]) -> bool:
    """Tell whether a unit runs, or is on its way up or down."""
    return unit["active"] not in QUIET


def running(base: Path) -> list[Instance]:
    """Describe what runs, each by the release whose configuration it has, or that knows its name."""
    shelved = list(_shelved(base))
    by_config, by_name = {item["config"]: item for item in shelved}, {item["name"]: item for item in shelved}
    nothing = {"port": 0, "gpus": [], "config": "", "host": manifest.HOST}
    return [
        {**nothing, **(by_config.get(unit["running_config"]) or by_name.get(name) or {}), "name": name}
        for name, unit in here().items()
        if runs(unit)
    ]


def victims(occupants: list[Instance], group: list[Instance], spared: set[str]) -> list[Instance]:
    """Choose the occupants that have what a group needs: a name, a port or a GPU.

    `spared` are names of instances that stay as they are, and so may share a GPU with the group.
    """
    names, ports = {item["name"] for item in group}, {item["port"] for item in group}
    gpus = {uuid for item in group for uuid in item["gpus"]}

    def stands_in_the_way(old: Instance) -> bool:
        shares = bool(gpus & set(old["gpus"])) and old["name"] not in spared
        return old["name"] in names or old["port"] in ports or shares

    return [old for old in occupants if stands_in_the_way(old)]


def groups(items: list[Instance], size: int) -> Iterator[list[Instance]]:
    """Deal instances into groups that change together; who starts after another comes in a later group."""
    left = list(items)
    while left:
        names = {item["name"] for item in left}
        first = ([item for item in left if item["starts_after"] not in names] or left)[:size]
        yield first
        left = [item for item in left if item not in first]


def _shelved(base: Path) -> Iterator[Instance]:
    """Yield every instance of every release on the host, those of the current one last."""
    current = manifest.target(base / "current")
    names = [path.name for path in base.glob("releases/[!.]*") if path.name != current]
    for name in [*names, current]:
        with contextlib.suppress(manifest.Unreadable):
            found = manifest.read(base, name)
            yield from ({**item, "host": found["host"]} for item in found["instances"])
