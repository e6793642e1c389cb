"""Bring a release into service: forward as an upgrade, backward as a rollback, with the same steps.

What runs with the right configuration is left alone. Of the rest a few instances at a time are drained, stopped,
started and put through the gate; the old instances on their ports or GPUs make room first.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rackhand.remote import drain, gate, manifest, occupancy, readiness, release, state, units
from rackhand.remote.occupancy import Instance
from rackhand.remote.problem import Problem
from rackhand.remote.readiness import Readiness
from rackhand.remote.stopping import Stopping
from rackhand.remote.turn_log import Failed, Log

ALL = 1000


class Bringing:
    """One release on its way into service.

    Going forward (log.gentle) the first failure ends it; on the way back everything is tried that may still serve.
    Raises manifest.Unreadable for a release that the host does not have.
    """

    def __init__(self, base: Path, order: dict[str, Any], log: Log, release_id: str) -> None:
        self.base, self.order, self.log, self.id = base, order, log, release_id
        self.found = manifest.read(base, release_id)
        self.wanted: dict[str, Instance] = {item["name"]: item for item in self.found["instances"]}
        self.stopping = Stopping(order, log)
        self.spared: set[str] = set()
        self.switched = False
        self.failures: list[Failed] = []
        # What the gate said of each instance, with `start_s`: how long its start took, None where it ran already.
        self.results: list[dict[str, Any]] = []

    def go(self) -> None:
        """Do it; raises Failed where an instance does not get there."""
        units_here = occupancy.here()
        stale = [item for item in self.wanted.values() if self._is_stale(item, units_here.get(item["name"]))]
        kept = [item for item in self.wanted.values() if item not in stale]
        self.spared = {item["name"] for item in kept}
        serves = any(occupancy.runs(unit) for unit in units_here.values())
        for group in occupancy.groups(stale, self.order["at_once"] if self.log.gentle and serves else ALL):
            self._replace(group)
            # Those that share a GPU with the next group stay: both belong to this release.
            self.spared |= {item["name"] for item in group}
        self._retire()
        self._switch()
        self._keep(kept)
        if self.failures:
            items = [item for failed in self.failures for item in failed.items]
            first = self.failures[0]
            raise Failed(first.code, first.what, first.instance, items)

    def _is_stale(self, item: Instance, unit: dict[str, Any] | None) -> bool:
        """Tell whether an instance must be (re)started to run as this release wants it."""
        asked = self.log.gentle and item["name"] in self.order["start"]
        owed = (self.base / state.OWED / item["name"]).exists()
        right = unit and unit["active"] == "active" and unit["running_config"] == item["config"]
        return asked or owed or not right

    def _replace(self, group: list[Instance]) -> None:
        """Put a group in the place of what has its names, ports and GPUs."""
        try:
            self.stopping.stop(occupancy.victims(occupancy.running(self.base), group, self.spared))
            self._switch()
            begun = self._start(group)
            questions = [readiness.started(self._question(item), begun) for item in group]
            self._prove(group, questions)
        except Problem as problem:
            self._fail([Failed(problem.code, problem.what, group[0]["name"])])
        finally:
            self.log.recall(starting=[])

    def _start(self, group: list[Instance]) -> dict[str, Any]:
        names = sorted(item["name"] for item in group)
        unproven = sorted({*self.log.progress.get("unproven", ()), *names})
        self.log.remember(touched=True, starting=names, unproven=unproven)
        for name in names:
            drain.say(name, drain.DRAIN)
        self.log.tell("start", *names)
        return units.start(str(self.base), names, self.found["venv"], self.order["user"])

    def _prove(self, group: list[Instance], questions: list[dict[str, Any]]) -> None:
        """Wait for instances and put those that answer through the gate; what passes is in service."""
        ready = Readiness(questions, self.found["start_timeout_s"], self.log)
        ready.wait()
        self._fail(ready.failed)
        asked = [manifest.questions(self.found, item) for item in group if item["name"] in ready.took]
        results = gate.check(asked, self.order["gate"]["request_timeout_s"]) if asked else []
        for question, each in zip(asked, results):
            if not each["failure"]:
                self._serve(each["name"])
                # Read only now: it takes a while, and the instance serves meanwhile.
                each["reported"] = gate.reported(question, each["unit"])
        fresh = bool(questions[0]["since"])
        self.results += [{**each, "start_s": ready.took[each["name"]] if fresh else None} for each in results]
        self._fail([Failed(each["failure"], each["what"], each["name"], [each]) for each in results if each["failure"]])

    def _fail(self, failures: list[Failed]) -> None:
        """Note failures; going forward they end it."""
        self.failures += failures
        if failures and self.log.gentle:
            items = [item for failed in failures for item in failed.items]
            raise Failed(failures[0].code, failures[0].what, failures[0].instance, items)

    def _serve(self, name: str) -> None:
        self.log.tell("gated", name)
        self.log.remember(unproven=[each for each in self.log.progress.get("unproven", ()) if each != name])
        drain.say(name, drain.READY)
        self.log.back(name)
        self.log.tell("serving", name)

    def _question(self, item: Instance) -> dict[str, Any]:
        """Ask for an instance that has no process yet, and so no key."""
        return {"name": item["name"], "host": self.found["host"], "port": item["port"], "key": ""}

    def _retire(self) -> None:
        """Stop what the release does not have any more, and let it start no more."""
        gone = sorted(occupancy.here().keys() - self.wanted.keys())
        if gone:
            retire(self.stopping, self.base, gone)

    def _switch(self) -> None:
        """Point `current` to the release and install its units, once."""
        if self.switched:
            return
        before = self.order["before"]
        changes = self.log.gentle and before["current"] != self.id
        self.log.remember(touched=True)
        previous = before["current"] if changes else before["previous"]
        release.install(str(self.base), self.id, previous, reload=not self.log.gentle)
        self.switched = True
        self.log.tell("switched", detail=self.id)

    def _keep(self, kept: list[Instance]) -> None:
        """Prove what was left as it is: it may have been started by systemd a moment ago, after a boot."""
        if not kept:
            return
        try:
            units.enable([item["name"] for item in kept])
            self._prove(kept, [readiness.running(self._question(item)) for item in kept])
        except Problem as problem:
            self._fail([Failed(problem.code, problem.what, kept[0]["name"])])


def retire(stopping: Stopping, base: Path, names: list[str]) -> None:
    """Stop instances that nobody wants any more, and disable them."""
    running = [item for item in occupancy.running(base) if item["name"] in names]
    stopping.stop(running, disable=True)
    left = [name for name in names if name not in {item["name"] for item in running}]
    if left:
        stopping.log.remember(touched=True)
        units.stop(left, stopping.order["stop_timeout_s"], disable=True)
    for name in names:
        drain.forget(name)
