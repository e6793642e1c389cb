"""Every fault at every step of a run, on practice hosts: whatever breaks, what worked serves, and reports are true.

A short run takes a covering choice of the matrix (RACKHAND_FAULTS_SEED=n another one), RACKHAND_FAULTS=all all of it.
RACKHAND_FAULTS_RECORD=FILE keeps what came of each pair, for `python -m tests.lab.fault_table`.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from queue import Queue

import pytest

from rackhand.lab.fleet import Fleet
from tests.lab.fault_matrix import PAIRS, Pair, covering, figures
from tests.lab.fault_play import Outcome, play
from tests.lab.fault_stage import Stage

pytestmark = pytest.mark.lab

WHOLE = os.environ.get("RACKHAND_FAULTS") == "all"
SEED = int(os.environ.get("RACKHAND_FAULTS_SEED", "0"))
CHOSEN = PAIRS if WHOLE else covering(PAIRS, SEED)
# Runs spend most of their time waiting, so several stages share the machine.
STAGES = int(os.environ.get("RACKHAND_FAULTS_STAGES", "2"))
PAIR_S = 3600

Outcomes = Mapping[str, "Future[Outcome]"]


@pytest.fixture(scope="module")
def outcomes(
    request: pytest.FixtureRequest, fleet: Fleet, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Outcomes]:
    """Play the pairs of all tests that are to run on several stages at once, and yield what comes of each."""
    stages = [Stage(fleet=fleet, directory=tmp_path_factory.mktemp(f"s{n}"), name=f"s{n}") for n in range(STAGES)]
    asked = [item.name for item in request.session.items]
    pairs = [pair for pair in CHOSEN if any(f"[{pair.name}]" in name for name in asked)]
    try:
        with _playing(stages, pairs) as played:
            yield played
        _keep([future.result() for future in played.values() if not (future.cancelled() or future.exception())])
    finally:
        for stage in stages:
            stage.clear()


@contextmanager
def _playing(stages: Sequence[Stage], pairs: Sequence[Pair]) -> Iterator[Outcomes]:
    """Play pairs, each on the stage that is free next; those that have not begun when nobody waits any more are not."""
    free: Queue[Stage] = Queue()
    with ThreadPoolExecutor(len(stages)) as pool:
        for stage in pool.map(_built, stages):
            free.put(stage)
        played = {pair.name: pool.submit(_played, free, pair) for pair in pairs}
        try:
            yield played
        finally:
            for future in played.values():
                future.cancel()


def _keep(found: list[Outcome]) -> None:
    record = os.environ.get("RACKHAND_FAULTS_RECORD")
    kept = [{name: value for name, value in asdict(each).items() if name != "printed"} for each in found]
    if record:
        Path(record).write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n")


def _built(stage: Stage) -> Stage:
    stage.build()
    return stage


def _played(free: "Queue[Stage]", pair: Pair) -> Outcome:
    stage = free.get()
    try:
        outcome = play(stage, pair)
        if outcome.wrongs:
            stage.repair()
        return outcome
    finally:
        free.put(stage)


@pytest.mark.parametrize("pair", CHOSEN, ids=lambda pair: pair.name)
def test_nobody_is_left_drained_half_switched_locked_or_silent_and_the_report_is_true(
    outcomes: Outcomes, pair: Pair
) -> None:
    outcome = outcomes[pair.name].result(PAIR_S)
    print(f"{outcome.pair}: {outcome.how}, serves {outcome.current} (exit {outcome.status}, {outcome.seconds} s)")
    assert outcome.wrongs == (), outcome.printed


def test_every_step_and_every_fault_is_played() -> None:
    print(figures(CHOSEN))
    assert {pair.moment.step for pair in CHOSEN} == {pair.moment.step for pair in PAIRS}
    assert {pair.fault.name for pair in CHOSEN} == {pair.fault.name for pair in PAIRS}
