"""The matrix of faults is whole: every pair is run or left out for a reason, and the page about it is current."""

import pytest

from tests.lab.fault_kinds import FAULTS
from tests.lab.fault_matrix import LEFT_OUT, PAIRS, POSSIBLE, STEPS, covering, reason
from tests.lab.fault_table import TABLE, recorded, table


def test_the_page_is_what_the_matrix_and_its_last_whole_run_say() -> None:
    assert TABLE.read_text() == table(recorded()), "run: python -m tests.lab.fault_table"


def test_every_pair_is_run_or_left_out_with_a_reason() -> None:
    assert len(POSSIBLE) == len(STEPS) * len(FAULTS)
    assert len({pair.name for pair in POSSIBLE}) == len(POSSIBLE)
    assert all(bool(reason(pair)) != (pair in PAIRS) for pair in POSSIBLE)


def test_no_reason_speaks_of_what_is_not_there() -> None:
    for each in LEFT_OUT:
        assert each.steps <= set(STEPS)
        assert each.faults <= {fault.name for fault in FAULTS}
        assert any(reason(pair) == each.why for pair in POSSIBLE)


@pytest.mark.parametrize("seed", range(5))
def test_a_short_run_has_every_step_and_every_fault(seed: int) -> None:
    chosen = covering(PAIRS, seed)
    assert {pair.moment.step for pair in chosen} == set(STEPS)
    assert {pair.fault.name for pair in chosen} == {fault.name for fault in FAULTS}
    assert len(chosen) <= 2 * len(STEPS)
