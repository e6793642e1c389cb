"""The steps of a run at which faults strike: how each is recognised from outside, and what makes it happen at all."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

ROOT = "opt/rackhand"
RACK, FRONT = "rack", "front"
SPARE_PACKAGE = "tree"
# Take away what the current release does not need, so that a run has to bring it.
ONLY_CURRENT = """
cd /opt/rackhand && needed=$(basename "$(readlink -f current/venv)")
for each in venvs/*; do case $each in *$needed*) ;; *) rm -rf "$each" ;; esac; done
"""
ONLY_CURRENT_MODEL = """
cd /opt/rackhand && needed=$(sed -n 's/.*"model": "\\([^"]*\\)".*/\\1/p' current/manifest.json)
for each in models/*; do [ "$each" = "models/$needed" ] || rm -rf "$each"; done
"""


@dataclass(frozen=True, kw_only=True)
class Sight:
    """What is seen of a run from outside: what it printed, and the files of the GPU host below `root`, SSH or not.

    It is looked at often, and until the fault strikes: no boot comes in between.
    """

    output: Path
    root: Path

    def printed(self) -> str:
        return self.output.read_text(errors="replace")

    def reads(self, path: str) -> str:
        """Return a file of the GPU host; empty where there is none, or the host is down."""
        try:
            return (self.root / path).read_text(errors="replace")
        except OSError:
            return ""

    def phases(self) -> list[str]:
        """Return what the host's own program has told of its order, in order."""
        lines = self.reads(f"{ROOT}/turn/events.jsonl").splitlines()
        return [json.loads(line)["phase"] for line in lines if line.endswith("}")]


Seen = Callable[[Sight], bool]


@dataclass(frozen=True, kw_only=True)
class Moment:
    """One step of a run, named by `step`; `by` says in words how one recognises it.

    `turns` names settings that get another value than the release before had. `prepares` is a shell command on the GPU
    host before the run, `breaks` a fault of the new engine from the beginning. `where` is the host that the step
    belongs to.
    """

    step: str
    by: str
    seen: Seen
    turns: tuple[str, ...] = ()
    prepares: str = ""
    breaks: str = ""
    where: str = field(default=RACK)


def _prints(words: str) -> Seen:
    return lambda sight: words in sight.printed()


def _tells(phase: str) -> Seen:
    return lambda sight: phase in sight.phases()


def _leased(sight: Sight) -> bool:
    said = sight.reads(f"{ROOT}/lock/lease.json")
    return bool(said) and json.loads(said)["expires"] > time.time()


def _unpacks(sight: Sight) -> bool:
    return "Unpacking" in sight.reads("var/log/rackhand/driver-install.log")


def _starts_again(sight: Sight) -> bool:
    phases = sight.phases()
    return "restoring" in phases and "start" in phases[phases.index("restoring") :]


def _step(step: str, title: str, **more: str | tuple[str, ...]) -> Moment:
    """A step that the run prints when it begins to change something."""
    return Moment(step=step, by=f"the run prints “{title}: …”", seen=_prints(f"{title}: "), **more)  # type: ignore[arg-type]


def _phase(phase: str, step: str = "", **more: str | tuple[str, ...]) -> Moment:
    """A phase of the order that the host's own program carries out."""
    by = f"the host's event file tells “{phase}”"
    return Moment(step=step or phase, by=by, seen=_tells(phase), **more)  # type: ignore[arg-type]


DRIVER = ("driver_version",)
BAD_RELEASE = "four-tokens"

MOMENTS: tuple[Moment, ...] = (
    Moment(step="lease", by="the host's lease file names a lease that has not expired", seen=_leased),
    _step("packages", "Host | user, directories, packages", prepares=f"dpkg --purge {SPARE_PACKAGE}"),
    _step("program", "Host | its own program", prepares="echo '# edited' >>/etc/systemd/system/rackhand-state.service"),
    _step("environment", "Engine | environment", prepares=ONLY_CURRENT),
    _step("weights", "Weights | present and checked", turns=("model_path",), prepares=ONLY_CURRENT_MODEL),
    _step("stage", "Release | stage"),
    _step("router ready", "Router | knows all that may serve", turns=("router_timeout_s",), where=FRONT),
    _phase("held", "driver hold", turns=DRIVER),
    Moment(
        step="driver install",
        by="the host's log of the driver tells “Unpacking”",
        seen=_unpacks,
        turns=DRIVER,
        prepares="rm -f /var/log/rackhand/driver-install.log",
    ),
    _step("driver load", "Driver | load", turns=DRIVER),
    _phase("armed"),
    _phase("drain"),
    _phase("stop"),
    _phase("switched"),
    _phase("start"),
    _phase("answering"),
    _phase("gated"),
    _phase("accepted"),
    _phase("restoring", breaks=BAD_RELEASE),
    Moment(
        step="start again",
        by="the host's event file tells “start” after “restoring”",
        seen=_starts_again,
        breaks=BAD_RELEASE,
    ),
    Moment(
        step="router settle",
        by="the run prints that this step begins",
        seen=_prints("Starting operation: Router | knows what serves"),
        where=FRONT,
    ),
    Moment(step="record", by="the run prints that this step begins", seen=_prints("Starting operation: Record | done")),
)
