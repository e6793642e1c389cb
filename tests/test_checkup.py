"""A deploy believes in no GPU that ails: it is refused before anything changes, or stopped in its turn."""

from pathlib import Path

import pytest

from rackhand.outcome import HostStatus, Severity
from tests.paper import Deploy, PaperHost

ROW = {"remapped": {"correctable": 0, "uncorrectable": 1, "pending": True, "failed": False}}
BRAKE = {"clock_events": 0x80}
COLD = {"state": "failed", "code": 802, "name": "CUDA_ERROR_SYSTEM_NOT_READY"}


@pytest.fixture
def deploy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Deploy:
    return Deploy(monkeypatch, tmp_path)


@pytest.mark.parametrize("ails", [ROW, {"ecc_uncorrected": 2}, {"recovery": 1}, {"retired_pending": True}])
def test_what_no_driver_cures_refuses_a_host_and_the_others_go_on(deploy: Deploy, ails: dict[str, object]) -> None:
    sick, well = PaperHost(ails=[ails]), PaperHost()
    result = deploy({"sick": sick, "well": well}, "-y")
    assert result.host("sick").status is HostStatus.REFUSED
    assert [each.code for each in result.host("sick").problems] == ["gpu-unhealthy"]
    assert sick.changing == []
    assert result.host("well").status is HostStatus.HEALTHY, "one sick card holds up no fleet"
    assert result.status == 1


def test_a_fleet_can_be_told_to_wait_until_every_gpu_is_fit(deploy: Deploy) -> None:
    sick, well = PaperHost(ails=[ROW]), PaperHost()
    result = deploy({"sick": sick, "well": well}, "-y", preflight_on_unhealthy="stop")
    assert (sick.changing, well.changing) == ([], [])
    assert "nothing was changed on any host: 1 of 2 refused (@fake/sick)" in result.said


def test_a_host_that_cannot_have_what_is_wished_still_stops_a_run_that_leaves_out_sick_ones(deploy: Deploy) -> None:
    sick, well, old = PaperHost(ails=[ROW]), PaperHost(), PaperHost(cards=("p100",))
    result = deploy({"sick": sick, "well": well, "old": old}, "-y")
    assert well.changing == []
    assert "nothing was changed on any host: 2 of 3 refused (@fake/old, @fake/sick)" in result.said


def test_the_first_well_host_goes_first_where_the_canary_is_sick(deploy: Deploy) -> None:
    hosts = {"a": PaperHost(ails=[ROW]), "b": PaperHost(), "c": PaperHost()}
    result = deploy(hosts, "-y", rollout_canary=("a",))
    assert [result.host(name).status for name in hosts] == [HostStatus.REFUSED, HostStatus.HEALTHY, HostStatus.HEALTHY]
    assert [each.hosts for each in result.outcome.waves] == [("@fake/b",), ("@fake/c",)]


def test_the_refusal_names_what_ails_which_gpu_and_what_to_do(deploy: Deploy) -> None:
    (problem,) = deploy({"sick": PaperHost(("l4", "l4"), ails=[{}, ROW])}, "-y").host("sick").problems
    said = "a remapped row waits for a reset: 1 remapped (row-remap-pending)"
    assert problem.what == f"not fit to serve: GPU 0000:11:00.0: {said}"
    assert "nvidia-smi --gpu-reset" in problem.next_step


def test_each_of_several_findings_is_named_with_its_own_advice(deploy: Deploy) -> None:
    sick = PaperHost(("l4", "l4"), ails=[ROW, {"ecc_uncorrected": 2}])
    (problem,) = deploy({"sick": sick}, "-y").host("sick").problems
    assert problem.what.endswith(", and 1 more finding")
    assert [line.partition(" → ")[0][-20:] for line in problem.evidence] == [
        " (row-remap-pending)",
        " 2 (ecc-uncorrected)",
    ]


def test_what_a_driver_may_cure_is_judged_after_it(deploy: Deploy) -> None:
    cold = PaperHost(cuda=COLD)
    host = deploy({"cold": cold}, "-y").host("cold")
    assert host.status is HostStatus.FAILED
    assert [each.code for each in host.problems] == ["gpu-unhealthy"]
    assert "(802)" in host.problems[0].what
    assert "order.begin" not in cold.calls, "nothing was drained for it"


def test_a_bare_host_is_asked_once_its_driver_works(deploy: Deploy) -> None:
    bare = PaperHost.bare("l4")
    assert deploy({"bare": bare}, "-y").host("bare").status is HostStatus.HEALTHY
    assert bare.calls.count("health.look") == 1
    assert bare.calls.index("driver.put") < bare.calls.index("health.look") < bare.calls.index("order.begin")
    assert [each["findings"] for each in bare.ledger if each["step"] == "health"] == [[]]


def test_a_driver_whose_gpus_ail_leads_to_no_switch(deploy: Deploy) -> None:
    bare = PaperHost.bare("l4")
    bare.ails = [ROW]
    host = deploy({"bare": bare}, "-y").host("bare")
    assert [each.code for each in host.problems] == ["gpu-unhealthy"]
    assert bare.orders == []
    assert [each["findings"] for each in bare.ledger if each["step"] == "health"] == [["row-remap-pending"]]


def test_a_run_with_nothing_to_do_asks_once(deploy: Deploy) -> None:
    rack = PaperHost()
    deploy({"rack": rack}, "-y")
    assert deploy({"rack": rack}, "-y").host("rack").status is HostStatus.UNCHANGED
    assert rack.calls.count("health.look") == 1


def test_a_host_that_serves_is_held_responsible_for_its_gpus_too(deploy: Deploy) -> None:
    rack = PaperHost()
    deploy({"rack": rack}, "-y")
    rack.cuda = COLD
    host = deploy({"rack": rack}, "-y").host("rack")
    assert host.status is HostStatus.FAILED
    assert rack.calls.count("health.look") == 2, "what blocks is looked at again before it is believed"
    assert rack.changing == []


def test_what_does_not_block_is_in_the_report_and_holds_nobody_up(deploy: Deploy) -> None:
    host = deploy({"rack": PaperHost(ails=[BRAKE])}, "-y").host("rack")
    assert host.status is HostStatus.HEALTHY
    assert [(each.code, each.severity, each.blocks) for each in host.findings] == [
        ("power-brake", Severity.WARNING, False)
    ]


def test_a_card_that_vanished_under_a_release_is_not_planned_around(deploy: Deploy) -> None:
    rack = PaperHost(("l4", "l4"))
    deploy({"rack": rack}, "-y")
    rack.loses(1)
    host = deploy({"rack": rack}, "-y").host("rack")
    assert (host.status, [each.code for each in host.problems]) == (HostStatus.REFUSED, ["gpu-unhealthy"])
    assert "(gpu-missing)" in host.problems[0].what
    assert deploy({"rack": rack}, "-y", gpu_count=1).host("rack").status is HostStatus.HEALTHY


def test_a_card_that_was_replaced_is_no_loss(deploy: Deploy) -> None:
    rack = PaperHost(("l4", "l4"))
    deploy({"rack": rack}, "-y")
    rack.facts["nvml"]["gpus"][1]["uuid"] = "GPU-new"
    assert deploy({"rack": rack}, "-y").host("rack").status is HostStatus.HEALTHY


def test_what_is_ignored_blocks_nothing_and_is_told(deploy: Deploy) -> None:
    host = deploy({"rack": PaperHost(ails=[ROW])}, "-y", health_ignore=("row-remap-pending",)).host("rack")
    assert host.status is HostStatus.HEALTHY
    assert [each.code for each in host.findings] == ["row-remap-pending"]


def test_a_warning_that_is_to_block_does_so_and_no_earlier_than_others(deploy: Deploy) -> None:
    rack = PaperHost(ails=[BRAKE])
    host = deploy({"rack": rack}, "-y", health_block=("power-brake",)).host("rack")
    assert [each.code for each in host.problems] == ["gpu-unhealthy"]
    assert "order.begin" not in rack.calls
