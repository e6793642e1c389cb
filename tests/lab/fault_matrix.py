"""The matrix itself: every step with every fault, what is left out and why, and what a short run chooses of it."""

import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tests.lab.fault_kinds import FAULTS, Fault
from tests.lab.fault_moments import MOMENTS, Moment

# How many faults a short run does at each step.
PER_STEP = 1


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One fault at one step."""

    moment: Moment
    fault: Fault

    @property
    def name(self) -> str:
        return f"{self.fault.name} at {self.moment.step}"


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """Pairs that are not run: all these steps with all these faults; why, and which test has what comes near it."""

    steps: frozenset[str]
    faults: frozenset[str]
    why: str


def _of(*names: str) -> frozenset[str]:
    return frozenset(names)


STEPS = tuple(moment.step for moment in MOMENTS)
ANSWERS = _of("wrong model", "slow start", "completion garbage")
BEFORE_START = frozenset(STEPS[: STEPS.index("start")]) - {"stage"}
PACKAGES = _of("lease", "packages", "driver hold", "driver install", "driver load")

LEFT_OUT: tuple[LeftOut, ...] = (
    LeftOut(
        steps=BEFORE_START,
        faults=ANSWERS,
        why="the new engine has no process yet: whatever it will do wrong begins at “start”; “stage” stands for all",
    ),
    LeftOut(
        steps=frozenset(STEPS) - PACKAGES,
        faults=_of("apt lock"),
        why="no package manager is asked from this step on, or by it",
    ),
    LeftOut(
        steps=_of("driver install", "driver load", "switched"),
        faults=_of("engine dies", "engine hangs"),
        why="no engine runs at this step: the old one is stopped and the new one not started",
    ),
    LeftOut(
        steps=_of("answering", "gated", "accepted", "router settle", "record"),
        faults=_of("slow start"),
        why="the new engine has started",
    ),
    LeftOut(
        steps=_of("gated", "accepted", "record"),
        faults=_of("wrong model", "completion garbage"),
        why="the host has its five tokens and asks no more; “router settle” is the last question of a run",
    ),
    LeftOut(
        steps=_of("restoring", "start again"),
        faults=ANSWERS,
        why="it strikes the release that is given up; were it the old one's, none would work: "
        "tests/test_turn_crashes.py, “failing gate, failing way back”",
    ),
    LeftOut(
        steps=_of("restoring", "start again"),
        faults=_of("engine hangs"),
        why="neither release works then: tests/test_turn_crashes.py, “failing gate, failing way back”",
    ),
)


def reason(pair: Pair) -> str:
    """Say why a pair is left out; empty where it is run."""
    out = (each.why for each in LEFT_OUT if pair.moment.step in each.steps and pair.fault.name in each.faults)
    return next(out, "")


POSSIBLE: tuple[Pair, ...] = tuple(Pair(moment=one, fault=other) for one, other in itertools.product(MOMENTS, FAULTS))
PAIRS: tuple[Pair, ...] = tuple(pair for pair in POSSIBLE if not reason(pair))


def covering(pairs: Sequence[Pair], seed: int, per_step: int = PER_STEP) -> tuple[Pair, ...]:
    """Choose so many faults for each step, evenly of all faults, those first that fit few steps; seeds differ.

    Every step is in it, and every fault.
    """
    used: Counter[str] = Counter()
    places = Counter(pair.fault.name for pair in pairs)
    chosen: list[Pair] = []
    for number, moment in enumerate(MOMENTS):
        there = [pair for pair in pairs if pair.moment is moment]
        first = (seed + number) % len(there)
        turned = there[first:] + there[:first]
        for pair in sorted(turned, key=lambda each: (used[each.fault.name], places[each.fault.name]))[:per_step]:
            used[pair.fault.name] += 1
            chosen.append(pair)
    return tuple(chosen)


def figures(run: Iterable[Pair]) -> str:
    """Say in one line how much of the matrix was run."""
    done = list(run)
    steps, faults = {pair.moment.step for pair in done}, {pair.fault.name for pair in done}
    share = f"{len(done)} of {len(PAIRS)} pairs run"
    out = f"{len(POSSIBLE) - len(PAIRS)} of {len(POSSIBLE)} possible ones left out with a reason"
    return f"{share}, {out}; {len(steps)} of {len(MOMENTS)} steps and {len(faults)} of {len(FAULTS)} faults in it"
