"""The whole deploy on paper: the order of its steps, what a second run does, and who is left alone when one fails."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typing_extensions import override

from rackhand.errors import RackhandError
from rackhand.outcome import HostStatus
from rackhand.whereabouts import here
from tests.paper import Deploy, PaperHost

STEPS = (
    "Preflight | every host has a plan",
    "Lease | one run at a time",
    "Host | user, directories, packages",
    "Host | its own program",
    "Driver | packages fetched, transaction simulated",
    "Engine | environment",
    "Weights | present and checked",
    "Release | stage",
    "Turns | one wave after the other",
    "Record | done",
)
IN_TURN = (
    "Driver | install, pin, hold",
    "Driver | load",
    "GPUs | persistence, fabric, nodes",
    "GPUs | NVML facts",
    "GPUs | healthy",
    "Release | stage with its GPUs",
    "Switch | drain, stop, start, gate",
    "Gate | five tokens",
)
LOST = RackhandError("connection-lost", "the SSH connection is gone", "gpu", "check the host")
FULL = RackhandError("disk-full", "the disk filled up", "gpu", "free space", ("E: No space left",))


@pytest.fixture
def deploy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Deploy:
    return Deploy(monkeypatch, tmp_path)


def test_the_steps_stand_in_their_order(deploy: Deploy) -> None:
    *titles, last = STEPS
    titles[-1:-1], more = ["Router | knows all that may serve"], "Router | knows what serves, tokens get through"
    assert deploy({"a": PaperHost.bare()}).titles == (*titles, more, last)


def test_a_bare_host_becomes_healthy_slow_things_first_and_disturbing_ones_in_its_turn(deploy: Deploy) -> None:
    host = PaperHost.bare("rtx4090", "rtx4090")
    result = deploy({"a": host}, "-y")
    assert result.status is None, result.said
    found = result.host("a")
    assert found.status is HostStatus.HEALTHY
    assert [instance.gate for instance in found.instances] == ["passed", "passed"]
    assert len({instance.gpus for instance in found.instances}) == 2
    order = [call for call in host.changing if call.startswith(("account", "driver", "reboot", "venv.b", "weights.a"))]
    assert order == [
        "account.prepare",
        "driver.stage",
        "venv.build",
        "weights.accept",
        "driver.put",
        "driver_load.renew",
    ]
    assert host.changing[-4:] == ["release.place", "order.begin", "order.confirm", "measured.keep"]


def test_the_journal_of_steps_says_which_changed_something(deploy: Deploy) -> None:
    steps = deploy({"a": PaperHost.bare()}, "-y").host("a").steps
    assert [step.name for step in steps] == [*STEPS[:-2], *IN_TURN, STEPS[-1]]
    changed = [step.name for step in steps if step.changed]
    assert changed == [*STEPS[2:7], *IN_TURN[:3], *IN_TURN[5:7]]
    assert all(step.summary for step in steps if step.changed)


def test_the_host_remembers_what_was_done_without_secrets(deploy: Deploy) -> None:
    host = PaperHost.bare()
    deploy({"a": host}, "-y")
    assert [line["step"] for line in host.ledger] == [
        "program", "driver-stage", "environment", "weights",
        "driver", "driver-load", "gpus", "health", "release", "measured",
    ]  # fmt: skip
    assert len({line["run"] for line in host.ledger}) == 1
    assert "canary" not in json.dumps(host.ledger)


def test_a_second_run_changes_nothing_and_still_asks_for_five_tokens(deploy: Deploy) -> None:
    host = PaperHost.bare("h100", "h100")
    deploy({"a": host}, "-y")
    again = deploy({"a": host}, "-y")
    assert again.status is None
    assert again.host("a").status is HostStatus.UNCHANGED
    assert host.changing == []
    assert host.calls.count("admission.check") == 1
    asked = {"survey.survey", "health.look", "gate.wait", "admission.check"}
    assert set(host.calls) == {*asked, "lease.take", "lease.release"}
    assert host.commands <= 8
    assert "nothing changed" in again.said


def test_a_changed_setting_touches_no_more_than_release_and_servers(deploy: Deploy) -> None:
    host = PaperHost.bare()
    deploy({"a": host}, "-y")
    deploy({"a": host}, "-y", serve_max_model_len=512)
    assert host.changing == ["release.place", "order.begin", "order.confirm", "measured.keep"]


def test_an_instance_that_is_no_longer_planned_does_not_run_on(deploy: Deploy) -> None:
    host = PaperHost.bare("h100", "h100")
    deploy({"a": host}, "-y")
    found = deploy({"a": host}, "-y", serve_instances=1).host("a")
    assert "stop llama-1" in next(step.summary for step in found.steps if step.name == IN_TURN[6])
    assert [unit["name"] for unit in host.facts["state"]["instances"]] == ["llama-0"]


def test_a_refused_host_stops_the_run_before_any_host_changes(deploy: Deploy) -> None:
    good, bad = PaperHost.bare(), PaperHost(cards=("p100",))
    result = deploy({"a": good, "b": bad}, "-y")
    assert (good.changing, bad.changing) == ([], [])
    assert result.status == 1
    assert result.host("b").status is HostStatus.REFUSED
    assert result.host("a").status is HostStatus.NOT_RUN
    assert "nothing was changed on any host: 1 of 2 refused (@fake/b)" in result.said
    assert "[gpu-too-old]" in result.said


def test_with_skip_the_others_go_on_and_the_run_still_fails(deploy: Deploy) -> None:
    good, bad = PaperHost.bare(), PaperHost(cards=("p100",))
    result = deploy({"a": good, "b": bad}, "-y", preflight_on_refusal="skip")
    assert result.host("a").status is HostStatus.HEALTHY
    assert result.host("b").status is HostStatus.REFUSED
    assert bad.changing == []
    assert result.status == 1


def test_a_wrong_setting_refuses_a_host_by_that_word_everywhere(deploy: Deploy) -> None:
    result = deploy({"a": PaperHost()}, "-y", rollout_canary=("nobody",))
    assert result.host("a").status is HostStatus.REFUSED
    assert [problem.code for problem in result.host("a").problems] == ["settings"]


@pytest.mark.parametrize(("most", "status", "changes"), [(0, HostStatus.NOT_RUN, False), (1, HostStatus.HEALTHY, True)])
@pytest.mark.parametrize("how", ["silent", "unreachable", "failed"])
def test_a_host_that_is_lost_counts_against_the_budget(
    deploy: Deploy, how: str, most: int, status: HostStatus, changes: bool
) -> None:
    good, lost = PaperHost.bare(), PaperHost.bare()
    lost.fails = {"silent": {"survey.survey": LOST}, "unreachable": {}, "failed": {"venv.build": FULL}}[how]
    deploy.silent = ("b",) if how == "unreachable" else ()
    result = deploy({"a": good, "b": lost}, "-y", rollout_max_failures=most)
    assert result.host("a").status is status
    assert ("order.begin" in good.changing) is changes
    assert result.host("b").status is (HostStatus.UNREACHABLE if how == "unreachable" else HostStatus.FAILED)
    assert result.status == 1
    assert bool(result.outcome.stopped) is not changes


def test_a_host_that_was_not_let_begin_says_why_and_goes_on_next_time(deploy: Deploy) -> None:
    good, bad = PaperHost.bare(), PaperHost.bare()
    bad.fails["venv.build"] = FULL
    result = deploy({"a": good, "b": bad}, "-y")
    (problem,) = result.host("a").problems
    assert problem.code == "rollout-stopped"
    assert "b (failed)" in problem.what
    assert "lease.release" in good.calls
    bad.fails.clear()
    again = deploy({"a": good, "b": bad}, "-y")
    assert again.outcome.good
    assert "venv.build" not in good.changing


def test_a_host_that_never_answered_is_reported_as_unreachable(deploy: Deploy) -> None:
    deploy.silent = ("b",)
    result = deploy({"a": PaperHost.bare(), "b": PaperHost.bare()}, "-y")
    assert result.host("b").status is HostStatus.UNREACHABLE
    assert "[unreachable]" in result.said


def test_hosts_with_nothing_to_do_are_gated_even_when_nobody_gets_a_turn(deploy: Deploy) -> None:
    still, bad = PaperHost.bare(), PaperHost.bare()
    deploy({"a": still}, "-y")
    bad.fails["venv.build"] = FULL
    result = deploy({"a": still, "b": bad}, "-y")
    assert result.host("a").status is HostStatus.UNCHANGED
    assert [instance.gate for instance in result.host("a").instances] == ["passed"]


def test_a_failing_step_ends_its_host_alone_and_the_report_quotes_the_evidence(deploy: Deploy) -> None:
    good, bad = PaperHost.bare(), PaperHost.bare()
    bad.fails["venv.build"] = FULL
    result = deploy({"a": good, "b": bad}, "-y", rollout_max_failures=1)
    assert result.host("a").status is HostStatus.HEALTHY
    found = result.host("b")
    assert found.status is HostStatus.FAILED
    assert [(problem.code, problem.evidence) for problem in found.problems] == [("disk-full", ("E: No space left",))]
    assert bad.changing[-1] == "venv.build"
    assert (found.steps[-1].name, found.steps[-1].changed) == ("Engine | environment", True)
    assert found.steps[-1].summary.endswith(": failed")
    assert result.status == 1
    assert "E: No space left" in result.said


def test_running_again_after_a_failure_continues_where_it_was(deploy: Deploy) -> None:
    host = PaperHost.bare()
    host.fails["venv.build"] = FULL
    deploy({"a": host}, "-y")
    host.fails.clear()
    result = deploy({"a": host}, "-y")
    assert result.host("a").status is HostStatus.HEALTHY
    assert host.changing[0] == "venv.build"
    assert "account.prepare" not in host.changing


def test_a_dry_run_says_the_plan_and_changes_nothing(deploy: Deploy) -> None:
    host = PaperHost.bare("rtx4090", "rtx4090")
    result = deploy({"a": host}, "--dry")
    assert result.status is None
    assert host.changing == []
    assert host.ledger == []
    assert result.outcome.dry
    assert result.host("a").status is HostStatus.PLANNED
    for words in ("2\N{MULTIPLICATION SIGN} RTX 4090", "2 instances, one GPU each", "vllm@llama-1 on 127.0.0.1:8001"):
        assert words in result.said
    assert not deploy.reports.exists()


def test_a_dry_run_on_a_refused_host_fails_with_every_reason(deploy: Deploy) -> None:
    result = deploy({"a": PaperHost(cards=("p100",), changes={"driver.runfile": True})}, "--dry")
    assert result.status == 1
    assert result.host("a").status is HostStatus.REFUSED
    assert "[gpu-too-old]" in result.said
    assert "[runfile-driver]" in result.said


def test_the_report_is_written_and_holds_no_secret(deploy: Deploy) -> None:
    result = deploy({"a": PaperHost.bare()}, "-y")
    text = (deploy.reports / "latest.json").read_text()
    report = json.loads(text)
    assert (report["good"], report["run"]) == (True, result.outcome.run)
    assert [host["status"] for host in report["hosts"]] == ["healthy"]
    assert "canary" not in text + result.said


def test_a_changed_host_between_plan_and_first_change_is_refused(deploy: Deploy) -> None:
    class Falling(PaperHost):
        @override
        def survey_survey(self, **_: object) -> dict[str, object]:
            facts = super().survey_survey()
            return facts if self.calls.count("survey.survey") == 1 else {**facts, "pci": []}

    host = Falling()
    result = deploy({"a": host}, "-y")
    assert host.changing == []
    assert [problem.code for problem in result.host("a").problems] == ["no-gpu"]
    assert result.status == 1


@pytest.mark.parametrize("place", ["survey.survey", "venv.build", "order.confirm"])
def test_a_fault_of_our_own_is_reported_with_its_frames_and_hurts_one_host_alone(deploy: Deploy, place: str) -> None:
    good, bad = PaperHost.bare(), PaperHost.bare()
    bad.breaks[place] = KeyError("forgotten")
    bad.facts["driver"], bad.facts["nvml"] = PaperHost().facts["driver"], bad.nvml
    result = deploy({"a": good, "b": bad}, "-y", preflight_on_refusal="skip", rollout_max_failures=1)
    assert result.host("a").status is HostStatus.HEALTHY
    found = result.host("b")
    assert found.status is HostStatus.FAILED
    assert [problem.code for problem in found.problems] == ["internal"]
    assert "KeyError: 'forgotten'" in found.problems[0].what
    assert any("paper.py" in line for line in found.problems[0].evidence)
    assert result.status == 1


@pytest.mark.parametrize(("place", "taken"), [(here(), True), ("another boot", False)])
def test_a_run_of_this_machine_that_died_does_not_hold_up_the_next(deploy: Deploy, place: str, taken: bool) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()

    class Leased(PaperHost):
        def lease_take(self, lease: dict[str, Any], **_: Any) -> None:
            if lease.get("ended") != "run-9":
                raise RackhandError("leased", "somebody has it", "a", "wait")

        def lease_look(self, **_: Any) -> dict[str, Any]:
            return {"run": "run-9", "place": place, "pid": dead.pid}

    result = deploy({"a": Leased.bare()}, "-y")
    assert (result.host("a").status is HostStatus.HEALTHY) is taken
    assert taken or result.host("a").problems[0].code == "leased"


class Stuck(PaperHost):
    """A host on which the order of a dead run is open; its program ends it where it `starts`."""

    starts = True

    def leaves_open(self) -> None:
        self.facts["state"]["order"] = {
            "run": "run-9",
            "kind": "switch",
            "purpose": "deploy",
            "to": "x",
            "alive": False,
        }

    def order_abort(self, code: str, what: str, **more: Any) -> bool:
        assert more["run"] == "run-9"
        if self.starts:
            self.facts["state"]["order"] = None
        return self.starts

    def order_watch(self, **more: Any) -> dict[str, Any]:
        if more["run"] != "run-9":
            return super().order_watch()
        result = {"verdict": "unchanged", "release": self.facts["state"]["current"]}
        return {"offset": 1, "open": False, "result": result, "instances": [], "events": [], "phase": "closed"}


def test_an_order_that_nobody_carries_out_is_ended_before_the_host_is_called_unchanged(deploy: Deploy) -> None:
    host = Stuck.bare()
    deploy({"a": host}, "-y")
    host.leaves_open()
    planned = deploy({"a": host}, "--dry").host("a")
    assert [each.code for each in planned.warnings] == ["order-stuck"]
    found = deploy({"a": host}, "-y")
    assert (found.status, found.host("a").status) == (None, HostStatus.HEALTHY)
    assert "end the order of run run-9 (deploy)" in next(s.summary for s in found.host("a").steps if s.changed)
    assert deploy({"a": host}, "-y").host("a").status is HostStatus.UNCHANGED


def test_an_order_that_nobody_can_end_is_named_and_nothing_is_changed(deploy: Deploy) -> None:
    host = Stuck.bare()
    deploy({"a": host}, "-y")
    host.leaves_open()
    host.starts = False
    found = deploy({"a": host}, "-y", serve_max_model_len=512)
    assert (found.status, [each.code for each in found.host("a").problems]) == (1, ["order-stuck"])
    assert host.changing == ["order.abort"]


def test_a_server_that_was_left_drained_is_let_in_again_and_that_is_said(deploy: Deploy) -> None:
    class Drained(PaperHost):
        @override
        def admission_check(self, instances: list[dict[str, Any]], **more: Any) -> list[dict[str, Any]]:
            return [{**each, "readmitted": "root" in more} for each in super().admission_check(instances, **more)]

    host = Drained.bare()
    assert deploy({"a": host}, "-y").host("a").warnings == ()
    again = deploy({"a": host}, "-y").host("a")
    assert (again.status, [each.code for each in again.warnings]) == (HostStatus.UNCHANGED, ["readmitted"])
    assert {"step": "readmitted", "instances": ["llama-0"]}.items() <= host.ledger[-1].items()


def test_what_still_keeps_the_driver_is_told_where_rackhand_is_not_to_manage_it_any_more(deploy: Deploy) -> None:
    host = PaperHost()
    host.facts["ground"]["ours"] = ["/etc/apt/preferences.d/rackhand-nvidia"]
    found = deploy({"a": host}, "-y", driver_manage=False).host("a")
    assert (found.status, [each.code for each in found.warnings]) == (HostStatus.HEALTHY, ["driver-still-kept"])


def test_a_dry_run_says_which_hosts_would_change_together(deploy: Deploy) -> None:
    hosts = {name: PaperHost.bare() for name in "abc"}
    still = PaperHost.bare()
    deploy({"d": still}, "-y")
    said = deploy({**hosts, "d": still}, "--dry", rollout_waves=(1, 2)).said
    assert "wave 1: @fake/a\nwave 2: @fake/b, @fake/c\n" in said
    assert "wave" not in deploy({"d": still}, "--dry").said


def test_a_hold_that_was_taken_off_is_put_back_while_the_servers_serve(deploy: Deploy) -> None:
    host = PaperHost.bare()
    deploy({"a": host}, "-y")
    host.facts["packages"]["held"] = []
    result = deploy({"a": host}, "-y")
    assert result.outcome.good
    assert host.changing == ["driver.put"]
    assert "put back the hold on" in next(each.summary for each in result.host("a").steps if each.changed)
