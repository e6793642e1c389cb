"""Which instances of this host take requests now. Read-only."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from rackhand.remote import drain, gate, occupancy

HEALTH_S = 5


def names(base: Path) -> list[str]:
    """Name the instances that answer /health, and to which routers may send requests; all are asked at once."""
    running = occupancy.running(base)
    with ThreadPoolExecutor(max_workers=max(1, len(running))) as pool:
        return [item["name"] for item, takes in zip(running, pool.map(_takes_requests, running)) if takes]


def _takes_requests(item: dict[str, Any]) -> bool:
    asked = {**item, "key": ""}
    return drain.said(item["name"]) == drain.READY and gate.get(asked, "/health", HEALTH_S)[0] == 200
