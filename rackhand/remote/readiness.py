"""Wait until engines that start answer, and know when there is no point in waiting any longer."""

from __future__ import annotations

import time
from typing import Any

from rackhand.remote import gate, units
from rackhand.remote.turn_log import Failed, Log

POLL_S = 0.15
# How often the journal is read for words after which waiting is pointless, in seconds.
JOURNAL_S = 2.0
Question = dict[str, Any]


class Readiness:
    """The wait for a group of instances; `took` says how long each needed, `failed` is what went wrong with others.

    A question is what rackhand.remote.gate.look wants to know: the instance with `since`, `before`, `restarts`.
    """

    def __init__(self, questions: list[Question], limit_s: float, log: Log) -> None:
        self.waiting, self.limit_s, self.log = list(questions), limit_s, log
        self.took: dict[str, float] = {}
        self.failed: list[Failed] = []
        self.begun = time.monotonic()
        self._read = self.begun

    def wait(self) -> None:
        """Return when every instance answers /health or has failed; going forward the first failure ends the wait."""
        while self.waiting:
            self.log.pulse()
            reads = time.monotonic() - self._read >= JOURNAL_S
            self._read = time.monotonic() if reads else self._read
            for question in list(self.waiting):
                self._look(question, reads)
            if self.failed and self.log.gentle:
                return
            if self.waiting:
                time.sleep(POLL_S)

    def _look(self, question: Question, reads: bool) -> None:
        name, seen = question["name"], gate.look(question)
        if seen["ready"]:
            self.took[name] = round(time.monotonic() - self.begun, 2)
            self.log.tell("answering", name, detail=f"{self.took[name]:.1f} s after its start")
            self.waiting.remove(question)
            return
        late = time.monotonic() - self.begun > self.limit_s
        if seen["failed"] or late or reads:
            failed = self._judge({**seen, "journal": gate.journal(question, seen)}, late)
            if failed:
                self.failed.append(failed)
                self.waiting.remove(question)

    def _judge(self, seen: dict[str, Any], late: bool) -> Failed | None:
        """Say why an instance will not get ready; None while it may."""
        name, unit = seen["name"], seen["unit"]
        if seen["failed"]:
            what = f"the engine ended while it started ({unit['ended'] or unit['result']})"
            return Failed("engine-died", what, name, [seen])
        fatal = next((line for line in seen["journal"] if self.log.fatal(line)), "")
        if fatal:
            return Failed("engine-died", f"the engine cannot start: {fatal[:200]}", name, [seen])
        if late:
            what = f"/health did not answer 200 within {self.limit_s:g} s"
            return Failed("gate-start-timeout", what, name, [seen])
        return None


def started(question: Question, begun: dict[str, Any]) -> Question:
    """Ask for an instance that was started by units.start, which answered `begun`."""
    return {**question, "since": begun["since"], "before": begun["before"].get(question["name"], ""), "restarts": 0}


def running(question: Question) -> Question:
    """Ask for an instance that runs already, or that systemd started by itself; another restart is a failure."""
    unit = units.describe(question["name"])
    return {**question, "since": 0.0, "before": "", "restarts": unit["restarts"]}
