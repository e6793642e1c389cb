"""What a run says of each host, and how it ends when it ends badly."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from rackhand import fleet_run, planner
from rackhand.errors import RackhandError
from rackhand.fleet_run import Run
from rackhand.outcome import HostStatus, Problem, StepOutcome
from rackhand.plan import Plan, Refusal
from rackhand.run import HostRun
from tests.paper import PaperHost
from tests.surveys import DRIVER, survey, wishes

PROBLEM = Problem(code="disk-full", what="the disk filled up", where="gpu-1", next_step="free space")
CHANGED = StepOutcome(name="Weights", changed=True, summary="copy", seconds=1.0)
SAME = StepOutcome(name="Weights", changed=False, summary="", seconds=0.0)


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr("sys.argv", ["pyinfra", "inventory/prod.py", "deploy.py", "-y"])
    return []


@pytest.fixture
def fleet(said: list[str]) -> Run:
    return Run(said.append)


@pytest.fixture
def statuses(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Record with which status the process would have ended."""
    found: list[int] = []
    monkeypatch.setattr("os._exit", found.append)
    return found


def joins(fleet: Run, name: str, **changes: Any) -> HostRun:
    wish = wishes(driver_version=DRIVER)
    plan = planner.plan(name, survey("h100"), wish)
    assert isinstance(plan, Plan)
    host = HostRun(name=name, run=fleet.id, session=PaperHost(name=name), progress=fleet.progress, wishes=wish)
    for key, value in {"plan": plan, **changes}.items():
        setattr(host, key, value)
    fleet.hosts[name] = host
    return host


REFUSAL = Refusal(host="gpu-1", cards="no GPU", reasons=(PROBLEM,))


@pytest.mark.parametrize(
    ("executing", "changes", "expected"),
    [
        (True, {"finished": True, "steps": [SAME, CHANGED]}, HostStatus.HEALTHY),
        (True, {"finished": True, "steps": [SAME]}, HostStatus.UNCHANGED),
        (True, {"finished": False, "steps": [CHANGED]}, HostStatus.INTERRUPTED),
        (True, {"finished": False, "problems": [PROBLEM]}, HostStatus.FAILED),
        (True, {"finished": True, "problems": [PROBLEM]}, HostStatus.FAILED),
        (False, {"plan": None, "refusal": REFUSAL}, HostStatus.REFUSED),
        (True, {"plan": None, "refusal": REFUSAL}, HostStatus.REFUSED),
        (False, {}, HostStatus.PLANNED),
        (False, {"plan": None, "problems": [PROBLEM]}, HostStatus.FAILED),
    ],
)
def test_the_status_of_a_host_follows_from_what_happened(
    fleet: Run, executing: bool, changes: dict[str, Any], expected: HostStatus
) -> None:
    fleet.executing = executing
    joins(fleet, "gpu-1", **changes)
    assert fleet.outcome().hosts[0].status is expected


def test_a_host_that_waited_for_a_refused_one_was_not_run(fleet: Run) -> None:
    joins(fleet, "gpu-1", plan=None, refusal=REFUSAL)
    joins(fleet, "gpu-2")
    assert [host.status for host in fleet.outcome().hosts] == [HostStatus.REFUSED, HostStatus.NOT_RUN]
    assert not fleet.outcome().good


def test_a_host_that_never_answered_is_unreachable(fleet: Run) -> None:
    fleet.executing, fleet.unreachable = True, ("gpu-2",)
    joins(fleet, "gpu-1", finished=True)
    found = fleet.outcome().hosts
    assert [(host.name, host.status) for host in found] == [
        ("gpu-1", HostStatus.UNCHANGED),
        ("gpu-2", HostStatus.UNREACHABLE),
    ]
    assert found[1].problems[0].next_step


def test_an_instance_that_was_not_reached_is_listed_without_a_verdict(fleet: Run) -> None:
    fleet.executing = True
    joins(fleet, "gpu-1", problems=[PROBLEM])
    (instance,) = fleet.outcome().hosts[0].instances
    assert (instance.name, instance.gate, instance.text) == ("llama-0", "not run", "")


@pytest.mark.parametrize(("changes", "expected"), [({"finished": True}, []), ({"problems": [PROBLEM]}, [1])])
def test_a_run_leaves_with_1_exactly_when_a_host_did_not_get_there(
    fleet: Run, statuses: list[int], tmp_path: Path, changes: dict[str, Any], expected: list[int]
) -> None:
    fleet.executing, fleet.report_dir = True, str(tmp_path)
    joins(fleet, "gpu-1", **changes)
    fleet.finish()
    assert statuses == expected
    assert json.loads((tmp_path / "latest.json").read_text())["good"] is not bool(expected)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_with_its_own_status_and_a_report(
    fleet: Run, said: list[str], statuses: list[int], tmp_path: Path, number: int
) -> None:
    fleet.executing, fleet.report_dir = True, str(tmp_path)
    joins(fleet, "gpu-1", steps=[CHANGED])
    fleet._terminate(number, None)
    assert statuses == [128 + number]
    assert json.loads((tmp_path / "latest.json").read_text())["hosts"][0]["status"] == "interrupted"
    assert "run again" in said[0]


def test_a_report_that_cannot_be_written_is_said_in_one_line_and_fails_the_run(
    fleet: Run, said: list[str], statuses: list[int], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    fleet.executing, fleet.report_dir = True, str(tmp_path / "file")
    joins(fleet, "gpu-1", finished=True)
    fleet.finish()
    assert statuses == [1]
    assert "[report]" in said[-1]
    assert any("gpu-1" in text for text in said[:-1])


def test_a_run_without_hosts_is_no_success(fleet: Run, statuses: list[int], tmp_path: Path) -> None:
    fleet.unreachable = ("gpu-1",)
    assert not fleet.outcome().good


def test_a_step_on_a_host_without_plan_or_settings_is_our_own_fault(fleet: Run) -> None:
    host = joins(fleet, "gpu-1", plan=None, wishes=None)
    for read in (lambda: host.planned, lambda: host.intent):
        with pytest.raises(RackhandError) as caught:
            read()
        assert caught.value.code == "internal"


def test_facts_are_read_once_until_something_changed(fleet: Run) -> None:
    host = joins(fleet, "gpu-1")
    host.survey()
    host.survey()
    assert host.session.commands == 1
    host.changed()
    host.survey()
    assert host.session.commands == 2


def test_planning_again_keeps_the_host_to_what_it_is_now(fleet: Run) -> None:
    host = joins(fleet, "gpu-1")
    host.seen = survey("p100")
    with pytest.raises(RackhandError) as caught:
        host.replan()
    assert caught.value.code == "gpu-too-old"
    host.seen = survey("h100", "h100")
    host.replan()
    assert len(host.planned.instances) == 2


def test_a_line_of_the_ledger_carries_the_run_and_the_step(fleet: Run) -> None:
    host = joins(fleet, "gpu-1")
    host.note("switch", release="abc")
    assert isinstance(host.session, PaperHost)
    assert host.session.ledger == [{"run": fleet.id, "step": "switch", "release": "abc"}]


def test_the_end_is_prepared_before_anything_happens(fleet: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    registered: list[object] = []
    handled: list[int] = []
    monkeypatch.setattr("rackhand.fleet_run.atexit.register", registered.append)
    monkeypatch.setattr("rackhand.fleet_run.signal.signal", lambda number, _: handled.append(number))
    fleet.begin(frozenset({"gpu-1"}), ())
    assert registered == [fleet.finish]
    assert handled == [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
    assert not fleet.complete
    joins(fleet, "gpu-1")
    assert fleet.complete


def test_every_run_has_an_id_of_its_own() -> None:
    assert fleet_run.Run(print).id != fleet_run.Run(print).id
