"""The last servers of a model that really answer are not taken out, whoever else ought to have it."""

from pathlib import Path

import pytest

from rackhand.outcome import HostStatus
from rackhand.remote import drain, gate, occupancy, service
from tests.paper import Deploy, PaperHost, Result

CHANGED = {"serve_shutdown_timeout_s": 61}


@pytest.fixture
def deploy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Deploy:
    return Deploy(monkeypatch, tmp_path)


def fleet(deploy: Deploy, names: str, *cards: str) -> dict[str, PaperHost]:
    """Return hosts that were deployed to and got no further order."""
    hosts = {name: PaperHost(cards=cards or ("h100",)) for name in names}
    assert {host.status for host in deploy(hosts, "-y").outcome.hosts} == {HostStatus.HEALTHY}
    for host in hosts.values():
        host.orders.clear()
    return hosts


def hang(host: PaperHost) -> None:
    """Let the units be active and the engines silent."""
    host.facts["state"]["in_service"] = []


def codes(result: Result, name: str) -> list[str]:
    return [problem.code for problem in result.host(name).problems]


def test_a_host_is_left_alone_whose_only_neighbour_is_refused_and_serves_nothing(deploy: Deploy) -> None:
    hosts = fleet(deploy, "ab", "h100", "h100")
    hosts["b"].loses(1)
    for unit in hosts["b"].facts["state"]["instances"]:
        unit["active"] = "failed"
    result = deploy(hosts, "-y", serve_instances=1, **CHANGED)
    assert hosts["a"].orders == []
    assert codes(result, "a") == ["capacity"]
    assert "rollout_min_replicas to 0" in result.host("a").problems[0].next_step


def test_it_goes_where_that_is_wished(deploy: Deploy) -> None:
    hosts = fleet(deploy, "ab", "h100", "h100")
    hosts["b"].loses(1)
    result = deploy(hosts, "-y", serve_instances=1, rollout_min_replicas=0, **CHANGED)
    assert result.host("a").status is HostStatus.HEALTHY


def test_a_refused_neighbour_that_still_serves_is_counted_on(deploy: Deploy) -> None:
    hosts = fleet(deploy, "ab", "h100", "h100")
    hosts["b"].ails = [{"ecc_uncorrected": 2}, {}]
    result = deploy(hosts, "-y", **CHANGED)
    assert result.host("b").status is HostStatus.REFUSED
    assert result.host("a").status is HostStatus.HEALTHY


def test_engines_that_do_not_answer_are_not_counted_as_healthy(deploy: Deploy) -> None:
    hosts = fleet(deploy, "abc")
    hang(hosts["b"])
    hang(hosts["c"])
    result = deploy(hosts, "-y", rollout_min_replicas=1, **CHANGED)
    assert hosts["a"].orders == [], "it is the only one that serves"
    assert codes(result, "a") == ["capacity"]


def test_a_fleet_in_which_nobody_answers_can_be_changed(deploy: Deploy) -> None:
    hosts = fleet(deploy, "ab")
    hang(hosts["a"])
    hang(hosts["b"])
    result = deploy(hosts, "-y", rollout_min_replicas=1, **CHANGED)
    assert {host.status for host in result.outcome.hosts} == {HostStatus.HEALTHY}


@pytest.mark.parametrize(("model", "changes"), [("llama", False), ("other", True)])
def test_a_host_out_of_reach_is_not_counted_on(deploy: Deploy, model: str, changes: bool) -> None:
    hosts = fleet(deploy, "a")
    deploy.silent, deploy.data = ("b",), {"model_name": model}
    result = deploy({**hosts, "b": PaperHost()}, "-y", rollout_max_failures=1, **CHANGED)
    assert (result.host("a").status is HostStatus.HEALTHY) is changes


@pytest.mark.parametrize(
    ("told", "answer", "found"), [("ready", 200, ["tiny-0"]), ("drain", 200, []), ("ready", 503, []), ("ready", 0, [])]
)
def test_an_instance_is_in_service_that_answers_and_is_not_drained(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, told: str, answer: int, found: list[str]
) -> None:
    item = {"name": "tiny-0", "port": 8000, "host": "127.0.0.1"}
    monkeypatch.setattr(occupancy, "running", lambda _: [item])
    monkeypatch.setattr(drain, "said", lambda _: told)
    monkeypatch.setattr(gate, "get", lambda *_: (answer, ""))
    assert service.names(tmp_path) == found


def test_where_nothing_runs_nothing_is_in_service(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(occupancy, "running", lambda _: [])
    assert service.names(tmp_path) == []
