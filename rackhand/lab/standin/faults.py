"""Faults that a practice host switches on in a file, read again at every question.

One fault per line: `fault NAME [ARGUMENT] [version=VERSION] [port=PORT] [driver=VERSION]`. With these it strikes only
the engine of that version, on that port, or under that driver. An unknown name ends the engine at once, so that no
test passes by a typo.
"""

import os
import socket
from dataclasses import dataclass
from pathlib import Path

CONFIGURATION = "/etc/rackhand-lab/standin.conf"
DRIVER = Path("/sys/module/nvidia/version")
CONFIGURATION_VARIABLE = "VLLM_STANDIN_FAULTS"
NAMES = frozenset(
    {
        "dies-at-start",
        "unknown-flag",
        "hangs-at-start",
        "slow-start",
        "dies-after-ready",
        "ignores-sigterm",
        "wrong-model-name",
        "wrong-version",
        "wrong-context",
        "unhealthy",
        "hangs-at-completion",
        "dies-at-completion",
        "completion-500",
        "garbage-completion",
        "four-tokens",
        "slow-tokens",
        "frozen-counter",
        "less-cache",
    }
)


@dataclass(frozen=True, kw_only=True)
class Engine:
    """Identify the engine that asks for its faults."""

    version: str
    port: int

    @property
    def fingerprint(self) -> str:
        """Say who answers, in the field of the API that is for it."""
        return f"vllm-{self.version}-{socket.gethostname()}:{self.port}"

    def fault(self, name: str) -> str | None:
        """Return the argument of an active fault ("" without one), or None."""
        return active(self).get(name)

    def fault_s(self, name: str, default_s: float) -> float | None:
        """Return the seconds that an active fault asks for, or None."""
        argument = self.fault(name)
        return None if argument is None else float(argument or default_s)


def active(engine: Engine) -> dict[str, str]:
    """Read the faults that strike this engine: {name: argument}. Raises ValueError for an unknown name."""
    path = Path(os.environ.get(CONFIGURATION_VARIABLE, CONFIGURATION))
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    faults: dict[str, str] = {}
    for words in (line.split() for line in text.splitlines() if line.strip() and not line.startswith("#")):
        if words[0] != "fault" or len(words) < 2 or words[1] not in NAMES:
            raise ValueError(f"{path}: not a fault: {' '.join(words)}")
        if _strikes(engine, words[2:]):
            faults[words[1]] = next((word for word in words[2:] if "=" not in word), "")
    return faults


def _strikes(engine: Engine, words: list[str]) -> bool:
    limits = dict(word.split("=", 1) for word in words if "=" in word)
    has = {"version": engine.version, "port": str(engine.port), "driver": _driver()}
    return all(has.get(name) == wanted for name, wanted in limits.items())


def _driver() -> str:
    """Return the version of the driver that is loaded; empty where none is."""
    return DRIVER.read_text().strip() if DRIVER.is_file() else ""
