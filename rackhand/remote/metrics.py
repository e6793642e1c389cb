"""Keep a page of the GPUs' metrics for a node exporter: new every half minute, gone when nobody keeps it."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from rackhand.remote import files

NAME = "rackhand_gpu.prom"
EVERY_S = 30.0
# NVML answers in less than a second; a GPU that fell off the bus can let it hang for ever.
ANSWER_S = 20.0
DOWN = (
    "# HELP rackhand_gpu_up Whether NVML answered: 1 or 0.\n"
    "# TYPE rackhand_gpu_up gauge\n"
    'rackhand_gpu_up{{state="{}"}} 0\n'
)


def main() -> None:
    """Write the page into the directory that the second argument names, again and again, until the unit is stopped."""
    path, question = Path(sys.argv[2], NAME), Question([sys.executable, "-I", sys.argv[0], "gpu-metrics"])
    while True:
        begun = time.monotonic()
        files.write(path, question.answer(ANSWER_S))
        time.sleep(max(0.0, begun + EVERY_S - time.monotonic()))


class Question:
    """One process at a time that asks NVML: a hanging one may not even die, so nobody waits for its end."""

    def __init__(self, command: list[str]) -> None:
        self._command = command
        self._asked: subprocess.Popen[str] | None = None

    def answer(self, within_s: float) -> str:
        """Return the page; where there is none in time, one that says so and nothing else."""
        if self._asked is not None and self._asked.poll() is None:
            return DOWN.format("hangs")
        self._asked = subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True)
        try:
            page, _ = self._asked.communicate(timeout=within_s)
        except subprocess.TimeoutExpired:
            self._asked.kill()
            return DOWN.format("hangs")
        return page if self._asked.returncode == 0 and "rackhand_gpu_up" in page else DOWN.format("crashed")
