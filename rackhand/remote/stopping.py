"""Take instances out of service and stop them, so that no request is lost and nothing of them is left."""

from __future__ import annotations

from typing import Any

from rackhand.remote import drain, freed, units
from rackhand.remote.occupancy import Instance
from rackhand.remote.turn_log import Failed, Log

# What systemd itself may need beyond the time after which it kills, in seconds.
MARGIN_S = 20


class Stopping:
    """Drains and stops instances as an order wants it. Going forward, nothing is done for a controller that is gone."""

    def __init__(self, order: dict[str, Any], log: Log) -> None:
        self.order, self.log = order, log

    def stop(self, instances: list[Instance], disable: bool = False) -> None:
        """Drain and stop instances; raises Failed where one may not be stopped, or does not go away."""
        if not instances:
            return
        names = [item["name"] for item in instances]
        with freed.Exit(names, {uuid for item in instances for uuid in item["gpus"]}) as leaving:
            self._drain(instances)
            self.log.remember(touched=True)
            self.log.tell("stop", *names)
            self.log.out(names)
            for name in names:
                drain.say(name, drain.DRAIN)
            self._kill_unproven(names)
            units.stop(names, self.order["stop_timeout_s"] + MARGIN_S, disable)
            self.log.tell("stopped", *names)
            left = leaving.wait(self.log.pulse)
        if left and self.log.gentle:
            raise Failed("gpu-memory-held", left, names[0])
        self.log.tell("freed", *names, detail=left)

    def _kill_unproven(self, names: list[str]) -> None:
        """End at once what failed before anybody was let in: it may hang on the gate's own request."""
        unproven = [name for name in names if name in self.log.progress.get("unproven", ())]
        if unproven and not self.log.gentle:
            units.kill(unproven)

    def _drain(self, instances: list[Instance]) -> None:
        """Let running requests end, for as long as is allowed."""
        serving = [item for item in instances if self._may_have_requests(item["name"])]
        if not self.log.touched:
            self.log.insist()
        if serving:
            names = [item["name"] for item in serving]
            admitted = [name for name in names if drain.said(name) == drain.READY]
            known = self.log.progress
            self.log.remember(
                draining=sorted({*known.get("draining", ()), *names}),
                admitted=sorted({*known.get("admitted", ()), *admitted}),
            )
            self.log.tell("drain", *names)
            self.log.out(names)
            self._wait(serving, names)
        if not self.log.touched:
            self.log.insist()

    def _may_have_requests(self, name: str) -> bool:
        """Tell whether anybody may still be served: on the way forward also by what somebody else has drained."""
        ours = name in self.log.progress.get("draining", ())
        return drain.said(name) == drain.READY or (self.log.gentle and not ours)

    def _wait(self, serving: list[Instance], names: list[str]) -> None:
        limit_s = self.order["drain"]["timeout_s"]
        left = drain.wait(serving, limit_s, self.log.pulse)
        count = f"{sum(left.values()):g} request{'' if sum(left.values()) == 1 else 's'}"
        if left and self.log.gentle and self.order["drain"]["on_timeout"] == "stop":
            raise Failed("drain-timeout", f"{count} still ran after {limit_s} s of draining", min(left))
        self.log.recall(cut_off=int(self.log.progress.get("cut_off", 0) + sum(left.values())))
        self.log.tell("drained", *names, detail=f"{count} cut off after {limit_s} s" if left else "")
