"""`rollback.py` on practice hosts: what worked serves again, offline, and what is not there is refused politely."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rackhand.lab.fleet import Fleet
from tests.lab.asking import told
from tests.lab.deploying import Result, World
from tests.lab.serving import Rack

pytestmark = pytest.mark.lab

OLD, NEW = "0.31.0", "0.32.0"
HOSTS: dict[str, dict[str, Any]] = {
    "back1": {"lab_personality": "1xH100"},
    "back2": {"lab_personality": "2xRTX4090"},
}
QUICK = {"serve_shutdown_timeout_s": 1, "rollout_waves": [1]}
ROOT = "/opt/rackhand"


@pytest.fixture(scope="module")
def world(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Yield two hosts that served with one vLLM and serve with the next, and can reach nothing outside any more."""
    world = World(fleet=fleet, directory=tmp_path_factory.mktemp("back"))
    for version in (OLD, NEW):
        result = world.deploy(HOSTS, **QUICK, **world.engine(version))
        assert result.status == 0, result.printed
    for name in HOSTS:
        rack(world, name).does(f"ip route del default; rm -r {ROOT}/bin; chmod -x /usr/bin/apt-get")
    yield world
    for name in HOSTS:
        fleet.remove(name)


def rack(world: World, name: str) -> Rack:
    return Rack(world=world, name=name, data=HOSTS[name])


def links(world: World, name: str) -> tuple[str, str]:
    """Name the current and the previous release of a host."""
    current, previous = rack(world, name).does(f"cd {ROOT}; readlink current previous").split()
    return Path(current).name, Path(previous).name


def version(world: World, name: str, port: int = 8000) -> str:
    return rack(world, name).does(f"curl -s 127.0.0.1:{port}/version")


def back(world: World, *arguments: str, **shared: Any) -> Result:
    """Roll back with an inventory that knows nothing but the hosts and how to go about it."""
    return world.roll_back(HOSTS, *arguments, **{"rollout_waves": [1], **shared})


def test_a_dry_run_says_from_what_to_what_and_changes_nothing(world: World) -> None:
    before = {name: (links(world, name), rack(world, name).pid("tiny-0")) for name in HOSTS}
    result = back(world, "--dry")
    assert result.status == 0, result.printed
    for name in HOSTS:
        current, previous = links(world, name)
        assert f"back from release {current} (vLLM {NEW}, " in result.printed
        assert f") to release {previous} (vLLM {OLD}, " in result.printed
    assert {name: (links(world, name), rack(world, name).pid("tiny-0")) for name in HOSTS} == before


def test_every_host_goes_back_without_anything_from_outside(world: World) -> None:
    before = {name: links(world, name) for name in HOSTS}
    drivers = rack(world, "back1").does("dpkg -l '*nvidia*'")
    result = back(world)
    assert result.status == 0, result.printed
    for name in HOSTS:
        host = result.host(name)
        assert (host["status"], host["vllm"], host["model"]) == ("healthy", OLD, "tiny")
        assert {item["gate"] for item in host["instances"]} == {"passed"}
        assert OLD in version(world, name)
        assert links(world, name) == before[name][::-1]
    assert OLD in version(world, "back2", 8001)
    assert [wave["hosts"] for wave in result.report["waves"]] == [["@lab/back1"], ["@lab/back2"]]
    assert result.report["purpose"] == "rollback"
    assert rack(world, "back1").does("dpkg -l '*nvidia*'") == drivers
    ledger = rack(world, "back1").does(f"tail -n 20 {ROOT}/ledger.jsonl")
    assert result.report["run"] in ledger
    found = told(world)
    assert (found.status, found.states("back2")) == (0, ["serving", "serving"])
    assert {each["told"] for each in found.host("back2")["instances"]} == {"ready"}


def test_a_second_rollback_leaves_those_that_went_back(world: World) -> None:
    before = {name: (links(world, name), rack(world, name).pid("tiny-0")) for name in HOSTS}
    result = back(world)
    assert result.status == 0, result.printed
    assert [result.host(name)["status"] for name in HOSTS] == ["unchanged", "unchanged"]
    assert "[back-already]" in result.printed
    assert {name: (links(world, name), rack(world, name).pid("tiny-0")) for name in HOSTS} == before


def test_the_release_that_was_left_comes_back_by_its_name(world: World) -> None:
    before = {name: links(world, name) for name in HOSTS}
    for name in HOSTS:
        result = back(world, "-y", "--limit", f"@lab/{name}", "--data", f"release={before[name][1]}")
        assert result.status == 0, result.printed
    assert {name: links(world, name)[::-1] for name in HOSTS} == before
    assert all(NEW in version(world, name) for name in HOSTS)


def test_the_current_release_by_its_name_changes_nothing_and_is_asked_for_five_tokens(world: World) -> None:
    current, pid = links(world, "back1")[0], rack(world, "back1").pid("tiny-0")
    result = back(world, "-y", "--limit", "@lab/back1", "--data", f"release={current[:6]}")
    assert result.status == 0, result.printed
    assert (result.host("back1")["status"], rack(world, "back1").pid("tiny-0")) == ("unchanged", pid)
    assert [item["gate"] for item in result.host("back1")["instances"]] == ["passed"]


def test_a_release_that_one_host_lacks_is_refused_before_any_host_changes(world: World) -> None:
    wished = links(world, "back1")[1]
    before = {name: (links(world, name), rack(world, name).pid("tiny-0")) for name in HOSTS}
    result = back(world, "-y", "--data", f"release={wished}")
    assert result.status == 1
    assert "nothing was changed on any host: 1 of 2 refused (@lab/back2)" in result.printed
    problem = result.problem("back2")
    assert (problem["code"], problem["what"]) == ("no-such-release", f"the host has no release {wished}")
    listed = "\n".join(problem["evidence"])
    assert all(f"{name}  vLLM " in listed for name in links(world, "back2"))
    assert {name: (links(world, name), rack(world, name).pid("tiny-0")) for name in HOSTS} == before


def test_with_skip_the_hosts_that_have_it_go_without_the_others(world: World) -> None:
    before, current = links(world, "back2"), links(world, "back1")
    result = back(world, "-y", "--data", f"release={current[1]}", preflight_on_refusal="skip")
    assert result.status == 1
    assert [result.host(name)["status"] for name in HOSTS] == ["healthy", "refused"]
    assert links(world, "back1") == current[::-1]
    assert links(world, "back2") == before


def test_a_release_that_does_not_pass_its_gate_any_more_gives_way_to_the_one_that_serves(world: World) -> None:
    before = links(world, "back2")
    rack(world, "back2").breaks(f"hangs-at-completion version={OLD}")
    result = back(world, "-y", "--limit", "@lab/back2", gate_request_timeout_s=5)
    rack(world, "back2").breaks()
    assert result.status == 1
    assert result.host("back2")["status"] == "rolled back"
    assert (links(world, "back2")[0], NEW in version(world, "back2")) == (before[0], True)
    again = back(world, "-y", "--limit", "@lab/back2")
    assert (again.status, again.problem("back2")["code"]) == (1, "release-failed")


def test_a_host_that_serves_nothing_has_nothing_to_go_back_to(world: World, fleet: Fleet) -> None:
    try:
        result = world.roll_back({"blank": {"lab_personality": "1xH100"}})
        assert result.status == 1
        assert result.problem("blank")["code"] == "not-deployed"
    finally:
        fleet.remove("blank")
