"""What the controller asks of a host's turn: begin an order, watch it, confirm it, have it undone.

The host's own program (rackhand.remote.turn) carries an order out; these calls write and read its files, and see to it
that the program is there.
"""

from __future__ import annotations

import contextlib
import subprocess
import time
from pathlib import Path
from typing import Any

from rackhand.remote import lease, manifest, state, turn_driver, turn_files, units
from rackhand.remote.problem import Problem

POLL_S = 0.1
CONFIRM_S = 10
JOURNAL_LINES = 40
# For how long a program that has just closed an order may need to end, in seconds.
ENDING_S = 20
# What an order may take beside its own limits before nobody believes in its program any more, in seconds.
MARGIN_S = 900
AGAIN = "wait until it is through (rackhand status): it finishes or goes back by itself; then run again"


def begin(root: str, order: dict[str, Any]) -> dict[str, Any]:
    """Open an order and set the host's program to it; one that a hold of the same run precedes takes its place.

    Returns the host's clock and the release that it will go back to. Raises Problem `turn-open`, `release-missing`,
    `program-missing`, `lease-lost`, `disk-full` or `systemctl`; nothing is disturbed then.
    """
    base, now = Path(root), time.time()
    before = turn_files.order(base)
    if before and not _makes_way(base, before, order):
        _see_to_it(base)
        raise _busy(before)
    found = _found(base, order["to"])
    kept = {name: before[name] for name in ("back", "before")} if before else manifest.standing(base)
    _await_end(bool(before))
    limits = {"created": now, "deadline": now + order["hold_s"] + _longest_s(base, order, [*found, kept["back"]])}
    with lease.kept(root, order["run"]):
        _hand_over(base, {**order, **kept, **limits}, before)
    return {"now": now, "back": kept["back"]}


def _hand_over(base: Path, order: dict[str, Any], before: dict[str, Any] | None) -> None:
    """Open the order and start the program, or leave everything as it was."""
    try:
        _open(base, order, bool(before))
        _set_going()
    except (OSError, Problem) as error:
        _withdraw(base, before)
        if isinstance(error, Problem):
            raise
        what = f"the order could not be written: {error.strerror or error}"
        raise Problem("disk-full", what, "free space on the host, then run again") from None


def _makes_way(base: Path, before: dict[str, Any], order: dict[str, Any]) -> bool:
    """Tell whether an open order is a hold that this one is to end."""
    held = "held_until" in turn_files.progress(base)
    return bool(held and before["kind"] == "hold" and order["kind"] == "switch" and before["run"] == order["run"])


def _found(base: Path, release: str) -> list[str]:
    """Make sure that the host has its program, and the release where the order is for one."""
    if not (base / state.PROGRAM_LINK).is_file():
        what = f"the host has no {state.PROGRAM_LINK}"
        raise Problem("program-missing", what, "run again: the deploy installs it first")
    try:
        return [release] if release and manifest.read(base, release) else []
    except manifest.Unreadable as error:
        raise Problem("release-missing", str(error), "run the deploy again: it places the release first") from None


def _busy(found: dict[str, Any]) -> Problem:
    return Problem("turn-open", f"the host still carries out the order of run {found['run'] or '(unreadable)'}", AGAIN)


def _longest_s(base: Path, order: dict[str, Any], releases: list[str]) -> float:
    """Add up everything that an order may take, forward and back, in seconds."""
    total, limits = float(MARGIN_S + order["confirm_s"]), {**turn_files.DEFAULTS, **order}["driver"]
    for release in filter(None, releases):
        try:
            found = manifest.read(base, release)
        except manifest.Unreadable:
            continue
        one = order["drain"]["timeout_s"] + order["stop_timeout_s"] + found["start_timeout_s"]
        total += 2 * len(found["instances"]) * one
    if order["kind"] == "hold" or turn_driver.changed(base):
        total += limits["timeout_s"] + limits["reboot_s"]
    return total


def _await_end(superseding: bool) -> None:
    """Let a program that has just closed another order come to its end, or it would not notice the new one."""
    deadline = time.monotonic() + ENDING_S
    while not superseding and _active() and time.monotonic() < deadline:
        time.sleep(POLL_S)


def _open(base: Path, order: dict[str, Any], superseding: bool) -> None:
    """Write the order down; from then on it is carried out, whatever becomes of this call."""
    progress = turn_files.progress(base) if superseding else {"phase": "asked", "touched": False}
    turn_files.clean(base)
    turn_files.write(base, turn_files.PROGRESS, {**progress, "run": order["run"], "begun": False})
    _systemctl("enable", state.PROGRAM)
    turn_files.write(base, state.ORDER, order)


def _withdraw(base: Path, before: dict[str, Any] | None) -> None:
    """Leave no order where a new one could not be begun; a hold that it was to replace goes on."""
    if not before:
        turn_files.close(base)
        turn_files.forget(base)


def _set_going() -> None:
    """Start the program unless it runs."""
    subprocess.run(
        ["systemctl", "reset-failed", state.PROGRAM], capture_output=True, timeout=state.ANSWER_S, check=False
    )
    _systemctl("start", "--no-block", state.PROGRAM)


def _systemctl(*words: str) -> None:
    try:
        done = subprocess.run(
            ["systemctl", *words], capture_output=True, text=True, timeout=state.ANSWER_S, check=False
        )
        status, said = done.returncode, done.stderr.splitlines()
    except subprocess.TimeoutExpired:
        status, said = 1, [f"no answer within {state.ANSWER_S} s"]
    if status:
        next_step = f"run 'systemctl status {state.PROGRAM}' on the host"
        raise Problem("systemctl", f"systemctl {' '.join(words)} failed", next_step, said[-3:])


def _active() -> bool:
    asked = ["systemctl", "is-active", state.PROGRAM]
    done = subprocess.run(asked, capture_output=True, text=True, timeout=state.ANSWER_S, check=False)
    return done.stdout.strip() in ("active", "activating", "deactivating", "reloading")


def _see_to_it(base: Path) -> None:
    """Bring a program back that was stopped while its order is open, or that hangs past every deadline: it goes back.

    A host that is about to shut down starts nothing; its next boot does.
    """
    found = turn_files.order(base)
    if found is None:
        return
    with contextlib.suppress(Problem):
        if not _active():
            _set_going()
        elif _hangs(base, found):
            _systemctl("kill", "--signal", "SIGKILL", state.PROGRAM)


def _hangs(base: Path, found: dict[str, Any]) -> bool:
    """Tell whether a program is past its order's deadline; one that goes back since then has as long once more."""
    deadline = found.get("deadline") or float("inf")
    begun = max(turn_files.attempts(base), default=0.0)
    return bool(time.time() > max(deadline, begun + deadline - found["created"]))


def watch(root: str, run: str, offset: int, wait_s: float) -> dict[str, Any]:
    """Return what happened since `offset`, at once when there is news and after `wait_s` seconds without."""
    base, deadline = Path(root), time.monotonic() + wait_s
    _see_to_it(base)
    while True:
        seen = _look(base, run, offset)
        if seen["open"]:
            turn_files.hear(base)
        if seen["events"] or not seen["open"] or time.monotonic() >= deadline:
            return {**seen, "instances": [_starting(name) for name in seen.pop("starting")]}
        time.sleep(POLL_S)


def _look(base: Path, run: str, offset: int) -> dict[str, Any]:
    found, progress = turn_files.order(base), turn_files.progress(base)
    if found and found["run"] not in ("", run):
        raise _busy(found)
    # The result is read after the order was looked for: it is written before that goes.
    result = turn_files.result(base, run)
    if not found and result is None:
        what = f"the host knows of no order of run {run}"
        raise Problem("turn-unknown", what, "see what runs there (rackhand status), then run again")
    events, place = turn_files.events(base, offset)
    told = events or turn_files.events(base, 0)[0]
    return {
        "events": events,
        "offset": place,
        "phase": told[-1]["phase"] if told else "",
        "open": bool(found),
        "result": result,
        "starting": list(progress.get("starting", ())) if found else [],
    }


def _starting(name: str) -> dict[str, Any]:
    unit = units.describe(name)
    lines = units.journal(name, only=unit["invocation"])[-JOURNAL_LINES:] if unit["invocation"] else []
    return {"name": name, "unit": unit, "journal": lines}


def confirm(root: str, run: str) -> dict[str, Any]:
    """Tell the host that its result is known; returns it once the order is closed."""
    base, deadline = Path(root), time.monotonic() + CONFIRM_S
    found = turn_files.order(base)
    if found and found["run"] == run:
        turn_files.signal(base, turn_files.CONFIRMED, run)
        turn_files.hear(base)
    while turn_files.order(base) and time.monotonic() < deadline:
        time.sleep(POLL_S / 2)
    result = turn_files.result(base, run)
    if turn_files.order(base):
        what = f"the host did not close the order within {CONFIRM_S} s"
        raise Problem("turn-timeout", what, f"run 'systemctl status {state.PROGRAM}' on the host")
    if result is None:
        what = f"the host knows of no order of run {run}"
        raise Problem("turn-unknown", what, "see what runs there (rackhand status), then run again")
    return result


def abort(root: str, run: str, code: str, what: str) -> bool:
    """Have the order of this run undone; return whether the host's program is at it, or there is nothing to do."""
    base = Path(root)
    found = turn_files.order(base)
    if not found or found["run"] != run:
        return True
    turn_files.hear(base)
    turn_files.signal(base, turn_files.ABORT, turn_files.text({"run": run, "code": code, "what": what}))
    _see_to_it(base)
    return _active()
