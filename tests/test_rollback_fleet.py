"""A rollback of a fleet that a deploy stopped in: who was changed goes back, who was not stays."""

import sys
from collections.abc import Mapping
from typing import Any

import pytest

from rackhand.outcome import Problem
from rackhand.plan import Refusal
from rackhand.progress import Progress
from rackhand.run import HostRun
from tasks import rollback
from tests.shelves import Laid
from tests.surveys import DRIVER, uuid
from tests.test_rollback import host, shelved

R0, R1, R2 = (Laid(number=number, venv=number, gpus=(uuid(0),)) for number in (1, 2, 3))
VLLM = {R0.id: "0.30.0", R1.id: "0.31.0", R2.id: "0.32.0"}
RUNS = {R0.id: "run-0", R1.id: "run-1", R2.id: "run-2"}


@pytest.fixture(autouse=True)
def _typed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["pyinfra", "inventory/prod.py", "rollback.py", "-y"])


def looked_at(
    name: str,
    current: Laid,
    previous: Laid | None,
    *there: Laid,
    back: str = "",
    vllm: str = "",
    driver: str = DRIVER,
    older: str = "passed",
    **runs: str,
) -> HostRun:
    laid = there or (R0, R1, R2)
    shelf = [
        shelved(
            each,
            engine_version=vllm or VLLM[each.id],
            run={**RUNS, **runs}[each.id],
            back=back if each == current else "",
            verdict=older if each == previous else "passed",
        )
        for each in laid
    ]
    session: Any = None
    found = HostRun(name=name, run="run-3", session=session, progress=Progress(lambda _: None))
    found.seen = host(*shelf, current=current, previous=previous, driver__loaded=driver, driver__library=driver)
    rollback.choose(found, {})
    return found


def ends(*hosts: HostRun) -> Mapping[str, str]:
    fleet = {each.name: each for each in hosts}
    rollback.spare(fleet)
    return {name: each.target.id if each.target and each.plan else "refused" for name, each in fleet.items()}


def test_who_was_upgraded_goes_back_and_who_was_not_stays() -> None:
    upgraded, waits = looked_at("a", R2, R1), looked_at("b", R1, R0)
    assert ends(upgraded, waits) == {"a": R1.id, "b": R1.id}
    assert [each.code for each in waits.warnings] == ["back-already"]
    assert upgraded.warnings == []


def test_a_host_without_a_previous_release_that_was_not_upgraded_is_no_reason_to_refuse() -> None:
    assert ends(looked_at("a", R2, R1), looked_at("b", R1, None, R1)) == {"a": R1.id, "b": R1.id}
    assert ends(looked_at("a", R2, None, R2)) == {"a": "refused"}


def test_nothing_is_told_of_a_release_to_which_a_host_does_not_go() -> None:
    waits = looked_at("b", R1, R0, driver="590.44.01")
    assert any(R0.id in each.what for each in waits.warnings)
    ends(looked_at("a", R2, R1), waits)
    assert not any(R0.id in each.what for each in waits.warnings)


def test_a_host_that_could_not_go_back_further_is_no_reason_to_refuse_where_it_stays() -> None:
    waits = looked_at("b", R1, R0, older="failed")
    assert waits.refusal
    assert ends(looked_at("a", R2, R1), waits) == {"a": R1.id, "b": R1.id}


def test_a_host_on_which_another_run_works_stays_refused() -> None:
    waits = looked_at("b", R1, R0)
    other = Problem(code="leased", what="bob is at work", where="b", next_step="wait")
    waits.refusal, waits.plan = Refusal(host="b", cards="", reasons=(other,)), None
    assert ends(looked_at("a", R2, R1), waits) == {"a": R1.id, "b": "refused"}


def test_after_a_deploy_that_stopped_at_its_canary_everybody_stays() -> None:
    canary = looked_at("a", R1, R0, back="turn", **{R1.id: "run-2"})
    assert ends(canary, looked_at("b", R1, R0)) == {"a": R1.id, "b": R1.id}


def test_who_was_upgraded_before_another_failed_goes_back_also_where_only_settings_changed() -> None:
    failed = looked_at("b", R1, R0, back="turn", vllm="0.32.0", **{R1.id: "run-2"})
    upgraded, waits = looked_at("a", R2, R1, vllm="0.32.0"), looked_at("c", R1, R0, vllm="0.32.0")
    assert ends(upgraded, failed, waits) == {"a": R1.id, "b": R1.id, "c": R1.id}


def test_a_rollback_that_was_cut_off_goes_on_with_the_others() -> None:
    done = looked_at("a", R1, R2, back="rollback", **{R1.id: "run-9"})
    assert ends(done, looked_at("b", R2, R1)) == {"a": R1.id, "b": R1.id}


def test_a_fleet_that_was_upgraded_in_two_runs_goes_back_as_a_whole() -> None:
    assert ends(looked_at("a", R2, R1), looked_at("b", R2, R1, **{R2.id: "run-2b"})) == {"a": R1.id, "b": R1.id}


def test_a_rollback_to_a_named_release_leaves_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--data", f"release={R0.id}"])
    assert ends(looked_at("a", R2, R1), looked_at("b", R1, R0)) == {"a": R0.id, "b": R0.id}
