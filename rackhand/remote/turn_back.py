"""The way back: leave what serves as it is, or put back what worked, after a failure or an interruption."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

from rackhand.remote import (
    drain,
    gate,
    manifest,
    occupancy,
    release,
    state,
    turn_driver,
    turn_files,
    turn_result,
    units,
)
from rackhand.remote.bring import Bringing, retire
from rackhand.remote.problem import Problem
from rackhand.remote.stopping import Stopping
from rackhand.remote.turn_log import Failed, Log

HEALTH_S = 5
# So many times within so many seconds going back is tried before the host is left to people.
ATTEMPTS, ATTEMPTS_S = 5, 600
DIED = "engine-died"
# What the way back writes at most, and for how long it waits for that on a full disk: somebody has to come and free it.
NEEDED_BYTES = 1 << 18
SPACE_S, SPACE_POLL_S = 1800.0, 2.0


class Back:
    """The way back of one order. Nothing calls it off, and a full disk does not stop it."""

    def __init__(self, base: Path, log: Log) -> None:
        self.base, self.log, self.order = base, log, log.order
        self.to, self.back = self.order["to"], self.order["back"]

    def recover(self) -> None:
        """Go back after this program, or the host, was interrupted in the middle of an order."""
        self.log.gentle = False
        tried = [each for each in turn_files.attempt(self.base) if abs(time.time() - each) < ATTEMPTS_S]
        failed = self._known_failure()
        if len(tried) > ATTEMPTS:
            self._give_up(failed)
            return
        if not self.log.touched and not self._still_serve():
            self.log.recall(touched=True)
        if self.log.touched:
            self._shut_the_door()
        known = self.log.progress.get("accepted") and turn_files.confirmed(self.base, self.order["run"])
        if not (known and self._stays()):
            self.fall(failed)

    def _known_failure(self) -> Failed:
        """Return why the order was to be undone already, or that it was interrupted."""
        known = self.log.progress.get("failure")
        if isinstance(known, dict):
            return Failed(known["code"], known["what"], known["instance"], known["items"])
        phase = self.log.progress.get("phase") or "(unknown)"
        return Failed("interrupted", f"the host, or its program, was interrupted after '{phase}'")

    def _still_serve(self) -> bool:
        """Tell whether all that was in service answers: a boot may have left some of it hanging."""
        progress = self.log.progress
        return {*progress.get("serving", ()), *progress.get("admitted", ())} <= self._answering()

    def _answering(self) -> set[str]:
        return {item["name"] for item in occupancy.running(self.base) if _answers(item)}

    def _shut_the_door(self) -> None:
        """Let routers send nobody to what is not known to work, before anything else."""
        right, answering = _configs(self.base, self.back), self._answering()
        for name in sorted({*occupancy.here(), *_configs(self.base, self.to), *right}):
            unit = units.describe(name)
            if unit["active"] != "active" or unit["running_config"] != right.get(name) or name not in answering:
                drain.say(name, drain.DRAIN)

    def _stays(self) -> bool:
        """Keep a release that had been confirmed, if it still passes the gate; return whether it does."""
        bringing = Bringing(self.base, self.order, self.log, self.to)
        try:
            bringing.go()
        except Failed:
            return False
        turn_result.close(self.base, self.log, "accepted", None, bringing.results)
        return True

    def fall(self, failed: Failed) -> None:
        """Leave what serves as it is, or put it back."""
        self.log.gentle = False
        # Where a full disk is the reason, what is put back needs space.
        (self.base / turn_files.RESERVE).unlink(missing_ok=True)
        self.log.tell("failed", failed.instance, detail=f"{failed.code}: {failed.what}")
        since = self.log.progress.get("failed_at") or time.time()
        self.log.recall(failure=failed.to_json(), failed_at=since)
        if failed.items and self.to not in ("", self.back):
            with contextlib.suppress(OSError):
                turn_result.judge(self.base, self.log, self.to, "failed", [])
        if not self.log.touched and not turn_driver.changed(self.base):
            self._leave(failed)
        elif self.back:
            self._restore(failed)
        else:
            self._stop_everything(failed)

    def _leave(self, failed: Failed) -> None:
        """Nothing was stopped yet: what serves goes on, and what somebody else had drained stays so."""
        for name in self.log.progress.get("admitted", ()):
            drain.say(name, drain.READY)
        turn_result.close(self.base, self.log, "unchanged", failed, [])

    def _restore(self, failed: Failed) -> None:
        self.log.tell("restoring", detail=self.back)
        turn_driver.put_back(self.base, self.log)
        bringing, lost = self._patiently()
        if lost and lost.code == DIED:
            # What worked before may have died of something that is over: out of memory, a GPU that was not free yet.
            bringing, lost = self._patiently()
        if lost:
            both = Failed(failed.code, failed.what, failed.instance, failed.items + lost.items)
            turn_result.close(self.base, self.log, "lost", both, bringing.results)
            return
        with contextlib.suppress(OSError):
            how = "" if self.log.order["purpose"] == "rollback" else "turn"
            turn_result.judge(self.base, self.log, self.back, "passed", bringing.results, back=how)
        turn_result.close(self.base, self.log, "restored", failed, bringing.results)

    def _patiently(self) -> tuple[Bringing, Failed | None]:
        """Bring the release before into service, and wait where a full disk is in the way of that."""
        deadline = time.monotonic() + SPACE_S
        while True:
            try:
                bringing, lost = self._bring_back()
            except OSError:
                if not self._full() or time.monotonic() > deadline:
                    raise
            else:
                if lost is None or not self._full() or time.monotonic() > deadline:
                    return bringing, lost
            self.log.tell("restoring", detail=f"waiting for space on a full disk: {self.back}")
            time.sleep(SPACE_POLL_S)

    def _bring_back(self) -> tuple[Bringing, Failed | None]:
        """Bring the release before into service; return how that failed, if it did."""
        bringing = Bringing(self.base, self.order, self.log, self.back)
        try:
            bringing.go()
        except Failed as lost:
            self.log.tell("failed", lost.instance, detail=f"{lost.code}: {lost.what}")
            return bringing, lost
        return bringing, None

    def _full(self) -> bool:
        """Tell whether a disk that the way back writes to has no room for it."""
        return any(turn_files.room(place) < NEEDED_BYTES for place in (self.base, state.UNIT.parent))

    def _stop_everything(self, failed: Failed) -> None:
        """Leave a clean host where nothing worked before."""
        self.log.tell("restoring")
        retire(Stopping(self.order, self.log), self.base, sorted(occupancy.here()))
        release.remove(str(self.base), self.order["before"]["previous"])
        turn_result.close(self.base, self.log, "stopped", failed, [])

    def _give_up(self, failed: Failed) -> None:
        """Leave the host to people: what was there is set going, and routers are kept from what does not answer."""
        with contextlib.suppress(OSError, Problem, manifest.Unreadable):
            found = manifest.read(self.base, self.back)
            release.install(str(self.base), self.back, self.order["before"]["previous"])
            names = [item["name"] for item in found["instances"]]
            units.start(str(self.base), names, found["venv"], self.order["user"])
        for item in occupancy.running(self.base):
            drain.say(item["name"], drain.READY if _answers(item) else drain.DRAIN)
        what = f"{failed.what}; going back was interrupted {ATTEMPTS} times within {ATTEMPTS_S} s and is given up"
        given_up = Failed("recovery-failed", what, failed.instance, failed.items)
        turn_result.close(self.base, self.log, "lost", given_up, [])


def _answers(item: occupancy.Instance) -> bool:
    return gate.get({**item, "key": ""}, "/health", HEALTH_S)[0] == 200


def _configs(base: Path, release_id: str) -> dict[str, str]:
    """Return the configurations of a release by instance; nothing of one that cannot be read."""
    try:
        return {item["name"]: item["config"] for item in manifest.read(base, release_id)["instances"]}
    except manifest.Unreadable:
        return {}
