"""Routers in a deploy on paper: what they know before the turns and after, and what is refused for their sake."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from rackhand.errors import RackhandError
from rackhand.outcome import HostStatus
from tests.paper import Deploy, PaperHost, Result

PUBLIC = {"serve_host": "0.0.0.0", "serve_api_key_from": "env:KEY"}
READY, SETTLED = "Router | knows all that may serve", "Router | knows what serves, tokens get through"


class PaperRouter(PaperHost):
    """A router that does what it is told; `served` are the configurations it got, `proved` the models it was asked."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.seen: dict[str, Any] = {
            "pci": [], "installed": False, "foreign": False, "files": {}, "unit": "", "program": "", "running": "",
            "hosts": [],
        }  # fmt: skip
        self.served: list[dict[str, Any]] = []
        self.proved: list[list[str]] = []

    def router_look(self, names: list[str], **_: Any) -> dict[str, Any]:
        return {**self.seen, "addresses": {name: f"10.0.0.{len(name)}" for name in names}}

    def router_install(self, **_: Any) -> None:
        self.seen["installed"] = True

    def router_serve(self, digest: str, content: dict[str, Any], unit: str, program: str, **_: Any) -> None:
        self.served.append(json.loads(content["hosts.json"]["text"]))
        files = {name: _sha256(file["text"]) for name, file in content.items()}
        self.seen.update(running=digest, files=files, unit=unit, program=_sha256(program), hosts=self.served[-1])

    def front_door_prove(self, models: list[str], **_: Any) -> None:
        self.proved.append(models)

    @property
    def known(self) -> dict[str, list[str]]:
        """Return the servers of each host as the router knows them now."""
        return {
            each["name"]: [f"{one['instance']}:{one['port']}" for one in each["servers"]] for each in self.seen["hosts"]
        }


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.fixture
def deploy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Deploy:
    made = Deploy(monkeypatch, tmp_path)
    made.routers = ("front",)
    return made


def run(
    deploy: Deploy, *argv: str, front: PaperHost, wished: dict[str, Any] | None = None, **hosts: PaperHost
) -> Result:
    return deploy({"front": front, **hosts}, *(argv or ("-y",)), **{**PUBLIC, **(wished or {})})


def test_a_router_without_gpus_needs_no_model_and_gets_haproxy(deploy: Deploy) -> None:
    front = PaperRouter()
    result = run(deploy, front=front, a=PaperHost(), b=PaperHost(cards=("h100", "h100")))
    assert result.status is None, result.said
    found = result.host("front")
    assert (found.role, found.status, found.model, found.vllm) == ("router", HostStatus.HEALTHY, "", "")
    assert "router.install" in front.calls
    assert front.known == {"@fake/a": ["llama-0:8000"], "@fake/b": ["llama-0:8000", "llama-1:8001"]}
    assert front.proved == [["llama"]]
    assert not any(call.startswith(("survey", "account", "order", "shelf")) for call in front.calls)


def test_it_knows_the_servers_before_the_first_host_has_its_turn(deploy: Deploy) -> None:
    front = PaperRouter()
    steps = run(deploy, front=front, a=PaperHost()).host("front").steps
    assert [(step.name, step.changed) for step in steps if step.name in (READY, SETTLED)] == [
        (READY, True),
        (SETTLED, False),
    ]


def test_a_second_run_reloads_nothing_and_still_sends_a_request_through(deploy: Deploy) -> None:
    front, gpu = PaperRouter(), PaperHost()
    run(deploy, front=front, a=gpu)
    again = run(deploy, front=front, a=gpu)
    assert again.host("front").status is HostStatus.UNCHANGED
    assert (len(front.served), len(front.proved)) == (1, 2)
    assert again.host("front").ssh_commands <= 6


def test_while_ports_move_both_are_known_and_afterwards_the_new_one_alone(deploy: Deploy) -> None:
    front, gpu = PaperRouter(), PaperHost()
    run(deploy, front=front, a=gpu)
    run(deploy, front=front, a=gpu, wished={"serve_port": 9000})
    ports = [[one["port"] for host in served for one in host["servers"]] for served in front.served]
    assert ports == [[8000], [8000, 9000], [9000]]


def test_a_host_that_was_rolled_back_is_known_as_it_serves(deploy: Deploy) -> None:
    front, gpu = PaperRouter(), PaperHost()
    run(deploy, front=front, a=gpu)
    gpu.turn_fails = {"code": "gate-tokens", "what": "no tokens"}
    result = run(deploy, front=front, a=gpu, wished={"serve_port": 9000})
    assert result.host("a").status is HostStatus.ROLLED_BACK
    assert result.host("front").status is HostStatus.HEALTHY
    assert front.known == {"@fake/a": ["llama-0:8000"]}


def test_what_is_not_in_this_run_is_kept_and_what_left_the_inventory_is_dropped(deploy: Deploy) -> None:
    front, here, there = PaperRouter(), PaperHost(), PaperHost()
    run(deploy, front=front, a=here, b=there)
    deploy.silent = ("b",)
    run(deploy, front=front, a=here, b=there)
    assert set(front.known) == {"@fake/a", "@fake/b"}
    deploy.silent = ()
    run(deploy, front=front, a=here)
    assert set(front.known) == {"@fake/a"}


def test_a_host_may_be_a_router_and_serve_itself(deploy: Deploy) -> None:
    class Both(PaperRouter):
        def router_look(self, names: list[str], **more: Any) -> dict[str, Any]:
            return {**super().router_look(names, **more), "pci": self.facts["pci"]}

    front = Both()
    result = run(deploy, front=front, wished={"serve_host": "127.0.0.1"})
    assert result.status is None, result.said
    assert result.host("front").role == "gpu"
    assert front.known == {"@fake/front": ["llama-0:8000"]}
    assert front.proved == [["llama"]]


def test_a_gpu_host_that_listens_to_itself_alone_is_refused_before_anything_changes(deploy: Deploy) -> None:
    front, gpu = PaperRouter(), PaperHost()
    result = run(deploy, front=front, a=gpu, wished={"serve_host": "127.0.0.1"})
    assert "its servers listen on 127.0.0.1, where the router @fake/front cannot reach them [serve-loopback]" in (
        f"{problem.what} [{problem.code}]" for host in result.outcome.hosts for problem in host.problems
    )
    assert gpu.changing == []
    assert front.served == []


def test_haproxy_of_somebody_else_is_left_alone(deploy: Deploy) -> None:
    front, gpu = PaperRouter(), PaperHost()
    front.seen["foreign"] = True
    result = run(deploy, front=front, a=gpu)
    assert [problem.code for problem in result.host("front").problems] == ["router-foreign"]
    assert gpu.changing == []


def test_keys_that_do_not_fit_are_refused_before_anything_changes(
    deploy: Deploy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLIENTS", "sk-clients")
    front, gpu = PaperRouter(), PaperHost()
    deploy.data = {"router_api_key_from": "env:CLIENTS"}
    result = run(deploy, front=front, a=gpu)
    assert [problem.code for host in result.outcome.hosts for problem in host.problems] == ["router-keys"]
    assert gpu.changing == []


def test_a_router_that_lets_anybody_in_is_refused(deploy: Deploy) -> None:
    result = run(deploy, front=PaperRouter(), a=PaperHost(), wished={"key": None})
    assert "router-open" in [problem.code for host in result.outcome.hosts for problem in host.problems]


def test_while_a_router_cannot_be_told_no_host_begins_its_turn(deploy: Deploy) -> None:
    front, gpu = PaperRouter(), PaperHost()
    front.fails["router.serve"] = RackhandError("router-config", "no", "front", "look")
    result = run(deploy, front=front, a=gpu)
    assert result.status == 1
    assert [problem.code for problem in result.host("front").problems] == ["router-config"]
    assert result.host("a").status is HostStatus.NOT_RUN
    assert "order.begin" not in gpu.calls


def test_a_closed_front_door_is_the_routers_failure_and_not_the_hosts(deploy: Deploy) -> None:
    front, gpu = PaperRouter(), PaperHost()
    front.fails["front_door.prove"] = RackhandError("router-path", "status 502", "front", "look")
    result = run(deploy, front=front, a=gpu)
    assert (result.host("front").status, result.host("a").status) == (HostStatus.FAILED, HostStatus.HEALTHY)


def test_an_address_that_the_router_does_not_find_is_said_before_a_turn(deploy: Deploy) -> None:
    class Lost(PaperRouter):
        def router_look(self, names: list[str], **more: Any) -> dict[str, Any]:
            return {**super().router_look(names, **more), "addresses": dict.fromkeys(names, "")}

    gpu = PaperHost()
    result = run(deploy, front=Lost(), a=gpu)
    assert [problem.code for problem in result.host("front").problems] == ["router-address"]
    assert "order.begin" not in gpu.calls


def test_servers_that_do_not_say_whether_they_drain_are_a_warning_and_said_once(deploy: Deploy) -> None:
    front = PaperRouter()
    front.seen["unheard"] = ["a_llama-0"]
    result = run(deploy, front=front, a=PaperHost())
    assert [each.code for each in result.host("front").warnings] == ["router-unheard"]
    assert "a_llama-0 do not say here whether they drain" in result.said
    front.seen["unheard"] = []
    assert run(deploy, front=front, a=PaperHost()).host("front").warnings == ()
