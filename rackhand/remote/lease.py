"""The lease: one run at a time works on this host, known by name, and for a limited time."""

from __future__ import annotations

import contextlib
import fcntl
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rackhand.remote import files, state
from rackhand.remote.problem import Problem

LOCK_TIMEOUT_S = 20
POLL_S = 0.1
WHO = ("owner", "controller", "run", "purpose", "pid", "place")


def take(root: str, lease: dict[str, Any]) -> dict[str, Any]:
    """Take the lease for `seconds`, or renew one of the same run; `break` takes it from whoever has it.

    `ended` names a run that is known to be dead: its lease holds nobody up.

    Returns the lease of another run that was taken over, which the ledger then names, too. Raises Problem `leased`
    while another run has it, and `turn-open` while the host still carries out another run's order.
    """
    with _alone(root):
        now = time.time()
        held = state.lease(Path(root))
        before = held if held and held["run"] != lease["run"] else None
        _refuse_open_turn(root, lease["run"])
        if before and before["expires"] > now and not lease["break"] and before["run"] != lease.get("ended"):
            raise _leased(before)
        since = now if before or not held else held["since"]
        limits = {"since": since, "expires": now + lease["seconds"], "seconds": lease["seconds"]}
        _write(root, {**{name: lease.get(name) for name in WHO}, **limits})
    if before:
        how = "ended" if before["run"] == lease.get("ended") else "broken" if before["expires"] > now else "expired"
        entry = {"run": lease["run"], "step": "lease", "verdict": how, "by": lease["owner"], "before": before}
        files.record(root, entry)
    return {"taken_over": before}


def renew(root: str, run: str, seconds: int) -> None:
    """Let the lease of this run last `seconds` from now on; raises Problem `lease-lost` where it has it no more."""
    with _alone(root):
        held = state.lease(Path(root))
        if not held or held["run"] != run:
            raise lost(held)
        _write(root, {**held, "expires": time.time() + seconds, "seconds": seconds})


@contextlib.contextmanager
def kept(root: str, run: str) -> Iterator[None]:
    """Let nobody take the lease meanwhile; raises Problem `lease-lost` where another run has it already."""
    with _alone(root):
        held = state.lease(Path(root))
        if held and held["run"] != run:
            raise lost(held)
        yield


def look(root: str) -> dict[str, Any] | None:
    """Return the lease as it lies there; None where nobody asked for one."""
    return state.lease(Path(root))


def release(root: str, run: str) -> bool:
    """Give the lease of this run back; return whether there was one. It is kept while an order of the run is open."""
    with _alone(root):
        held, order = state.lease(Path(root)), state.open_order(Path(root))
        if not held or held["run"] != run or (order and order["run"] == run):
            return False
        _path(root).unlink()
        return True


def lost(held: dict[str, Any] | None) -> Problem:
    """Say that a run has its lease no more, and who has it now."""
    who = f"{_named(held)} took it over" if held else "it ran out and was taken away"
    return Problem(
        "lease-lost",
        f"this run has no lease of the host any more: {who}",
        "look who works on it (rackhand status), then run again",
    )


def _leased(held: dict[str, Any]) -> Problem:
    return Problem(
        "leased",
        f"{_named(held)} has worked on this host since {_utc(held['since'])} UTC; its lease ends at "
        f"{_utc(held['expires'])} UTC unless it is renewed",
        "wait for that run to end; only if it is surely dead, take its place with --data lease_break=true",
    )


def _refuse_open_turn(root: str, run: str) -> None:
    """Refuse while the host's own program carries out the order of another run: it ends that by itself."""
    order = state.open_order(Path(root))
    if order and order["run"] != run and order["alive"]:
        raise Problem(
            "turn-open",
            f"the host still carries out the order ({order['purpose']}) of run {order['run']}",
            "wait until it is through (rackhand status): it finishes or goes back by itself; then run again",
        )


def _named(held: dict[str, Any]) -> str:
    return f"{held.get('owner') or 'somebody'} ({held.get('purpose') or 'run'} {held['run']})"


def _utc(moment: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(moment))


def _path(root: str) -> Path:
    return Path(root, state.LEASE)


def _write(root: str, lease: dict[str, Any]) -> None:
    files.write(_path(root), json.dumps(lease, sort_keys=True) + "\n", 0o600)


@contextlib.contextmanager
def _alone(root: str) -> Iterator[None]:
    """Let one call after the other read and write the lease."""
    folder = _path(root).parent
    folder.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + LOCK_TIMEOUT_S
    with (folder / "lock").open("a") as lock:
        while not _locked(lock.fileno()):
            if time.monotonic() > deadline:
                what = f"another call has held {folder / 'lock'} for {LOCK_TIMEOUT_S} s"
                raise Problem("host-busy", what, "see who has it open (fuser on the host), then run again")
            time.sleep(POLL_S)
        yield


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
