"""Whether stopped instances are really gone: no process of theirs, and none of them on a GPU any more."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

LIMIT_S = 30.0
POLL_S = 0.1
NVML_S = 20
CGROUPS = Path("/sys/fs/cgroup")
# Our own program, which may be replaced by another while it runs.
PROGRAM = str(Path(sys.argv[0]).resolve())


class Exit:
    """The end of some instances. Enter it before they are stopped: what it takes to ask NVML is got ready meanwhile."""

    def __init__(self, names: list[str], uuids: set[str]) -> None:
        self.names, self.uuids = names, uuids
        self._asker: subprocess.Popen[str] | None = None

    def __enter__(self) -> Exit:
        self._prepare()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._asker:
            self._asker.kill()
            self._asker.communicate()

    def wait(self, pulse: Callable[[], None]) -> str:
        """Wait until nothing of the instances is left, on these GPUs neither; return what is, empty for nothing."""
        deadline = time.monotonic() + LIMIT_S
        while True:
            pulse()
            left = processes(self.names) or self._on_gpus()
            if not left:
                return ""
            if time.monotonic() > deadline:
                return f"{'; '.join(left[:4])} {LIMIT_S:g} s after the stop"
            time.sleep(POLL_S)

    def _on_gpus(self) -> list[str]:
        """Say which processes of the units NVML still sees, or that it hangs; nothing where it cannot be asked."""
        units = {f"vllm@{name}.service" for name in self.names}
        gpus = self._ask() if self.uuids else []
        if gpus is None:
            return [f"NVML did not say within {NVML_S} s who is on the GPUs"]
        return [
            f"process {process['pid']} ({process['unit']}) holds {process['mib'] or '?'} MiB of {gpu['uuid']}"
            for gpu in gpus
            for process in gpu["processes"] or ()
            if process["unit"] in units
        ]

    def _prepare(self) -> None:
        """Start a process that asks NVML when it is told to: a wrong call can hang or crash inside the library."""
        if self.uuids:
            pipe, command = subprocess.PIPE, [sys.executable, "-I", PROGRAM, "nvml"]
            self._asker = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True)

    def _ask(self) -> list[dict[str, Any]] | None:
        """Return what NVML says of its GPUs; None where it hangs."""
        if not self._asker:
            self._prepare()
        asker, self._asker = self._asker, None
        if asker is None:
            return []
        try:
            gpus: list[dict[str, Any]] = json.loads(asker.communicate("\n", timeout=NVML_S)[0])
        except (subprocess.TimeoutExpired, OSError, ValueError) as error:
            asker.kill()
            asker.communicate()
            return None if isinstance(error, subprocess.TimeoutExpired) else []
        return gpus


def processes(names: list[str]) -> list[str]:
    """Say which processes are left in the control groups of the units."""
    found = []
    for name in names:
        for path in CGROUPS.glob(f"**/vllm@{name}.service/**/cgroup.procs"):
            try:
                found += [f"process {pid} of vllm@{name}" for pid in path.read_text().split()]
            except OSError:
                continue
    return found
