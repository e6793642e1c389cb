"""How an order ended: the one document that the controller, the ledger and the next run read."""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path
from typing import Any

from rackhand.remote import driver_journal, manifest, turn_files
from rackhand.remote.turn_log import Failed, Log

JOURNAL_LINES = 40
# Where the ledger is looked through for an end that was written a moment ago.
LAST_LINES = 20
LEDGER = ("verdict", "release", "before", "to", "code", "what", "out_s", "back_s")
Results = list[dict[str, Any]]


def close(base: Path, log: Log, verdict: str, failed: Failed | None, results: Results) -> None:
    """Write down how the order ended, which ends it, and tidy up. Every step may be the last one of this program."""
    outcome = _outcome(base, log, verdict, failed, results)
    if verdict != "accepted":
        log.tell(verdict, detail=outcome["release"])
    turn_files.conclude(base, outcome)
    tidy(base, log, outcome)


def tidy(base: Path, log: Log, outcome: dict[str, Any]) -> None:
    """Put the end of an order into the ledger, once, and take the order away.

    A driver on which a release was accepted is there to stay.
    """
    if outcome["verdict"] == "accepted":
        with contextlib.suppress(OSError):
            driver_journal.healthy(base)
    entry = {name: outcome[name] for name in LEDGER}
    if outcome.get("driver"):
        entry["driver"] = outcome["driver"]
    if not _noted(base, log.order["run"], outcome["verdict"]):
        log.note(**entry)
    log.tell("closed")
    turn_files.close(base)


def _noted(base: Path, run: str, verdict: str) -> bool:
    """Tell whether the ledger knows this end already: a program that was killed right after it begins anew here."""
    with contextlib.suppress(OSError):
        for line in (base / "ledger.jsonl").read_bytes().splitlines()[-LAST_LINES:]:
            with contextlib.suppress(ValueError, AttributeError):
                entry = json.loads(line)
                if (entry.get("run"), entry.get("step"), entry.get("verdict")) == (run, "order", verdict):
                    return True
    return False


def judge(base: Path, log: Log, release: str, verdict: str, results: Results, back: str = "") -> None:
    """Write a release's verdict beside it; `back` is how the host came back to it, "rollback" or "turn"."""
    instances = {each["name"]: {"start_s": each["start_s"]} for each in results}
    told = {"verdict": verdict, "run": log.order["run"], "at": time.time(), "back": back}
    manifest.judge(base, release, {**told, "instances": instances})


def _outcome(base: Path, log: Log, verdict: str, failed: Failed | None, results: Results) -> dict[str, Any]:
    items = failed.items if failed else []
    starts = [each["start_s"] for each in results if each["start_s"] is not None]
    since = log.progress.get("failed_at")
    return {
        "run": log.order["run"],
        "verdict": verdict,
        "release": manifest.target(base / "current"),
        "before": log.order["before"]["current"],
        "to": log.order["to"],
        "code": failed.code if failed else "",
        "what": failed.what if failed else "",
        "instance": failed.instance if failed else "",
        "journal": next((item["journal"][-JOURNAL_LINES:] for item in items), []),
        "gate": [each for each in results if not each["failure"]],
        "failed_gate": items,
        "out_s": log.out_s(),
        "start_s": max(starts, default=None),
        "back_s": round(time.time() - since, 2) if since and verdict == "restored" else None,
        "driver": log.progress.get("driver"),
        "cut_off": log.progress.get("cut_off"),
        "released": not failed or failed.code != "gpu-memory-held",
        "at": time.time(),
    }
