"""What an order's program remembers and tells while it works; every look at the world goes through its pulse."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rackhand.remote import files, turn_files

SILENT_S = 30.0


class Failed(Exception):
    """The order cannot be carried out; `items` is what was seen of the instances that did not get there."""

    def __init__(self, code: str, what: str, instance: str = "", items: Sequence[dict[str, Any]] = ()) -> None:
        super().__init__(what)
        self.code, self.what, self.instance, self.items = code, what, instance, list(items)

    def to_json(self) -> dict[str, Any]:
        return {"code": self.code, "what": self.what, "instance": self.instance, "items": self.items}


class Log:
    """The memory of one order: progress on the disk, events for the controller, lines in the ledger.

    `gentle` is the way forward: it can be called off. On the way back nothing is asked any more.
    """

    def __init__(self, base: Path, order: dict[str, Any]) -> None:
        self.base, self.order = base, order
        self.progress = turn_files.progress(base)
        self.gentle = True
        self._fatal = [re.compile(pattern) for pattern in order["fatal"]]

    @property
    def touched(self) -> bool:
        """Tell whether anything was disturbed that would have to be put back; where nobody knows, it was."""
        return bool(self.progress.get("touched", True))

    def remember(self, **more: Any) -> None:
        """Write down how far this is before the next step; raises OSError where that cannot be written.

        On the way back a full disk is no reason to stop.
        """
        if all(name in self.progress and self.progress[name] == value for name, value in more.items()):
            return
        self.progress = {**self.progress, **more}
        try:
            turn_files.write(self.base, turn_files.PROGRESS, self.progress)
        except OSError:
            if self.gentle:
                raise

    def recall(self, **more: Any) -> None:
        """Write down what is good to know and must not stop anything."""
        with contextlib.suppress(OSError):
            self.remember(**more)

    def tell(self, phase: str, *instances: str, detail: str = "") -> None:
        """Tell the controller; one event for each instance, or one for the host as a whole."""
        self.progress["phase"] = phase
        for instance in instances or ("",):
            turn_files.tell(self.base, phase, instance, detail)

    def note(self, **facts: Any) -> None:
        """Write a line to the ledger; a full disk is no reason to leave anything undone."""
        with contextlib.suppress(OSError):
            files.record(str(self.base), {"run": self.order["run"], "step": "order", **facts})

    def pulse(self) -> None:
        """Look whether the controller wants this undone; raises Failed then."""
        wish = turn_files.aborted(self.base, self.order["run"]) if self.gentle else None
        if wish:
            raise Failed(str(wish.get("code") or "interrupted"), str(wish.get("what") or "the controller gave up"))

    def insist(self) -> None:
        """Begin nothing for a controller that is gone."""
        if self.gentle and turn_files.silent_s(self.base) > SILENT_S:
            raise Failed("controller-silent", "nothing was heard from the controller any more before the first stop")

    def fatal(self, line: str) -> bool:
        return any(pattern.search(line) for pattern in self._fatal)

    def serving(self, names: list[str]) -> None:
        """Begin with these instances in service; a program that was restarted keeps what it wrote down."""
        if "serving" not in self.progress:
            since = None if names else time.time()
            self.remember(serving=sorted(names), out_s=0.0, out_since=since, had=bool(names))

    def out(self, names: list[str]) -> None:
        """Take instances out of what is in service; the host is out when none is left."""
        left = [name for name in self.progress.get("serving", ()) if name not in names]
        since = self.progress.get("out_since")
        self.recall(serving=left, out_since=since if left or since is not None else time.time())

    def back(self, name: str) -> None:
        """Count an instance as in service again."""
        since, out_s = self.progress.get("out_since"), self.progress.get("out_s", 0.0)
        gone = time.time() - since if since is not None else 0.0
        serving = sorted({*self.progress.get("serving", ()), name})
        self.recall(serving=serving, out_since=None, out_s=round(out_s + gone, 2))

    def out_s(self) -> float | None:
        """Return for how many seconds no instance was in service, None where there was none before, or no gap."""
        if not self.progress.get("had"):
            return None
        since = self.progress.get("out_since")
        return round(self.progress["out_s"] + (time.time() - since if since is not None else 0.0), 2) or None
