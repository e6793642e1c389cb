"""Play one pair of the matrix: begin a run, wait for the step, do the fault, undo it, and look what came of it."""

import contextlib
import time
from dataclasses import dataclass, field

from rackhand.lab.host import LabHost
from tests.lab.deploying import Result
from tests.lab.fault_checks import GOOD, Standing, lies, locked, release, standing, unwell
from tests.lab.fault_kinds import STANDIN_FAULTS, inside
from tests.lab.fault_matrix import Pair
from tests.lab.fault_stage import Running, Stage

REACH_S = 90
# What a host may need by itself: a boot, systemd's pause before it starts a dead engine again, and a way back.
BY_ITSELF_S = 120.0
LOOK_S = 0.01


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of a pair: how the run ended, what was wrong, and how long everything took."""

    pair: str
    seconds: float
    status: int
    how: str
    current: str
    wrongs: tuple[str, ...]
    printed: str = ""


@dataclass
class Scene:
    """What a fault lays hands on."""

    rack: LabHost
    front: LabHost
    at: LabHost
    group: int
    new: str
    bad: str
    phases: list[str] = field(default_factory=list)


def play(stage: Stage, pair: Pair) -> Outcome:
    """Play a pair, from a host that serves to a host that serves."""
    begun, old = time.monotonic(), release(standing(stage.rack))
    _prepare(stage, pair)
    running = stage.begin()
    scene = _scene(stage, pair, running)
    reached = _strike(stage, pair, running, scene)
    result = running.end()
    pair.fault.heal(scene)
    stage.well()
    seen, wrongs = _settled(stage, result, old)
    wrongs = (*(() if reached else ("the step was not reached",)), *wrongs, *_again(stage, result))
    return Outcome(
        pair=pair.name,
        seconds=round(time.monotonic() - begun, 1),
        status=result.status,
        how=_how(stage, result),
        current="old" if release(seen) == old else "new",
        wrongs=wrongs,
        printed=result.printed if wrongs else "",
    )


def _scene(stage: Stage, pair: Pair, running: Running) -> Scene:
    return Scene(
        rack=stage.rack,
        front=stage.front,
        at=stage.at(pair.moment.where),
        group=running.process.pid,
        new=stage.version,
        bad=pair.moment.breaks,
    )


def _prepare(stage: Stage, pair: Pair) -> None:
    stage.turn(pair.moment.turns)
    inside(stage.rack, f"rm -f /opt/rackhand/turn/events.jsonl; {pair.moment.prepares}")
    bad = pair.moment.breaks
    stage.rack.write(STANDIN_FAULTS, f"fault {bad} version={stage.version}\n" if bad else "")


def _strike(stage: Stage, pair: Pair, running: Running, scene: Scene) -> bool:
    """Wait for the step and do the fault, and undo it where it is to last shorter than the run; tell if it came."""
    sight, deadline = stage.sight(running), time.monotonic() + REACH_S
    while not pair.moment.seen(sight):
        if not running.before(deadline):
            return False
        time.sleep(LOOK_S)
    with running.frozen():
        scene.phases = sight.phases()
        pair.fault.strike(scene)
    if pair.fault.lasts_s is not None:
        running.goes_on(pair.fault.lasts_s)
        pair.fault.heal(scene)
    return True


def _settled(stage: Stage, result: Result, old: str) -> tuple[Standing, tuple[str, ...]]:
    """Give the host time to act by itself, and name what is wrong after that."""
    deadline = time.monotonic() + BY_ITSELF_S
    while True:
        seen = standing(stage.rack)
        found = tuple(unwell(stage, seen, frozenset({old, _target(stage, old)})))
        if not found or time.monotonic() > deadline:
            return seen, (*found, *lies(stage, result, seen, old))
        time.sleep(1)


def _target(stage: Stage, old: str) -> str:
    """Name the release that the run was to bring: the newest on the host."""
    listed = inside(stage.rack, "ls -t /opt/rackhand/releases").split()
    return next((name for name in listed if name != old), old)


def _how(stage: Stage, result: Result) -> str:
    with contextlib.suppress(KeyError, StopIteration):
        host = result.host(f"{stage.name}-rack")
        codes = [problem["code"] for problem in host["problems"]]
        return f"{host['status']}{' (' + ', '.join(codes) + ')' if codes else ''}"
    return "killed" if result.status < 0 else "no report"


def _again(stage: Stage, result: Result) -> tuple[str, ...]:
    """Run again without the fault, unless the run got there, and name what is wrong then."""
    if result.status == 0:
        return ()
    again = stage.deploy()
    if again.status != 0:
        last = [line for line in again.printed.splitlines() if "→" in line][-3:]
        return (f"run again, it ends with {again.status}: {last or again.printed[-800:]}",)
    good = [host["status"] for host in again.report["hosts"]]
    seen = standing(stage.rack)
    found = (*unwell(stage, seen, frozenset({release(seen)})), *locked(seen))
    return tuple(f"run again: {each}" for each in (*found, *(each for each in good if each not in GOOD)))
