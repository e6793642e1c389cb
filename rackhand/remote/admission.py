"""Believe servers that this run did not start: what passes the gate is told to routers as ready again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rackhand.remote import drain, gate, state


def check(root: str, instances: list[dict[str, Any]], timeout_s: int) -> list[dict[str, Any]]:
    """Put instances through the gate; `readmitted` says of one that passed that it was drained until now.

    While an order is open its program alone says who is ready.
    """
    results = gate.check(instances, timeout_s)
    open_order = (Path(root) / state.ORDER).exists()
    for each in results:
        left = not each["failure"] and not open_order and drain.said(each["name"]) == drain.DRAIN
        if left:
            drain.say(each["name"], drain.READY)
        each["readmitted"] = left
    return results
