"""A router's configuration: what is in it for which hosts, and that the real programs take it.

To renew the golden files after looking at the difference: REWRITE_GOLDEN=1 pytest tests/test_router_rendering.py
"""

import os
from pathlib import Path

import pytest

from rackhand.remote.server_states import merged
from rackhand.render import PRIVATE, PUBLIC
from rackhand.routing.front import Front
from rackhand.routing.render import CONFIG, NGINX, SERVERS, render
from rackhand.routing.servers import Fronted, backends, fleet, named, union
from tests.routers import accepted, front, fronted, place, server

GOLDEN = Path(__file__).parent / "golden" / "router"
CANARY = "canary-$ecret-\"quoted\"-'key'\\"
TWO = (server(at_once=256), server("tiny-1", 8001, at_once=256))
ROUTERS: dict[str, tuple[Front, tuple[Fronted, ...]]] = {
    "one-model": (front(), (fronted("gpu-1", *TWO), fronted("gpu-2"))),
    "on-a-gpu-host": (front(), (fronted("front", listens="127.0.0.1"),)),
    "keys-affinity": (front(CANARY, f"{CANARY}-2", router_balance="hash"), (fronted("gpu-1"), fronted("gpu-2"))),
    "two-models": (front(router_timeout_s=1800), (fronted("gpu-1"), fronted("gpu-2", server("big-0", model="Big-7B")))),
    "nothing-yet": (front(), ()),
    "ipv6": (front(router_bind="::"), (fronted("gpu-1", listens="fd00::1"),)),
}


@pytest.mark.parametrize("name", ROUTERS)
def test_a_router_reads_as_in_its_golden_files(name: str) -> None:
    rendered = render(*ROUTERS[name], "front", {})
    for path, file in rendered.files.items():
        golden = GOLDEN / name / path
        if os.environ.get("REWRITE_GOLDEN"):
            golden.parent.mkdir(parents=True, exist_ok=True)
            golden.write_text(file.text)
        assert file.text == golden.read_text(), path
    assert {path.name for path in (GOLDEN / name).iterdir()} == set(rendered.files)


def test_no_golden_router_is_left_over() -> None:
    assert {path.name for path in GOLDEN.iterdir()} == set(ROUTERS)


@pytest.mark.parametrize("name", ROUTERS)
def test_the_real_haproxy_takes_the_configuration(name: str, tmp_path: Path) -> None:
    folder = place(render(*ROUTERS[name], "front", {}), tmp_path)
    (tmp_path / "router/servers.state").write_text(merged("", (folder / SERVERS).read_text()))
    assert accepted(folder / CONFIG) == ""


@pytest.mark.parametrize("name", ROUTERS)
def test_the_real_nginx_takes_the_configuration(name: str, tmp_path: Path) -> None:
    folder = place(render(*ROUTERS[name], "front", {}), tmp_path)
    whole = tmp_path / "nginx.conf"
    whole.write_text(f"pid {tmp_path}/pid; events {{}}\nhttp {{ access_log off; include {folder / NGINX}; }}\n")
    assert accepted(whole, "nginx") == ""


def test_keys_are_in_private_files_alone_and_of_clients_only_the_digest() -> None:
    rendered = render(*ROUTERS["keys-affinity"], "front", {})
    open_to_all = {name for name, file in rendered.files.items() if file.mode == PUBLIC}
    assert {name for name, file in rendered.files.items() if file.mode == PRIVATE} == {"clients", "server.key", NGINX}
    assert not any("canary" in rendered.files[name].text for name in {*open_to_all, "clients"})


def test_a_changed_key_is_another_configuration() -> None:
    hosts = (fronted(),)
    digests = [render(front(key, "b"), hosts, "front", {}).digest for key in ("a", "a", "c")]
    assert digests[0] == digests[1] != digests[2]


def test_servers_that_only_listen_to_themselves_are_reached_from_their_own_host_alone() -> None:
    hosts = (
        fronted("gpu-1", listens="127.0.0.1"),
        fronted("gpu-2", listens="::"),
        fronted("gpu-3", listens="10.9.9.3"),
    )
    reached = {router: [host.reached_from(router) for host in hosts] for router in ("front", "gpu-1", "gpu-2")}
    assert reached == {
        "front": ["", "10.0.0.2", "10.9.9.3"],
        "gpu-1": ["127.0.0.1", "10.0.0.2", "10.9.9.3"],
        "gpu-2": ["", "::1", "10.9.9.3"],
    }


def test_names_of_hosts_become_the_addresses_that_the_router_found() -> None:
    hosts = (fronted("gpu-1", address="gpu-1.example.net"), fronted("gpu-2"))
    assert named(hosts, "front") == ("gpu-1.example.net",)
    (only,) = backends(hosts, "front", {"gpu-1.example.net": "10.7.7.7"})
    assert [target.place for target in only.targets] == ["10.7.7.7:8000", "10.0.0.2:8000"]


def test_a_router_keeps_what_it_knows_of_hosts_that_were_not_asked_and_drops_those_that_are_no_more() -> None:
    before = (fronted("gpu-1", server(port=8000)), fronted("gpu-2"), fronted("gpu-3"))
    seen = {"gpu-1": fronted("gpu-1", server(port=9000)), "gpu-4": fronted("gpu-4")}
    known = fleet(["gpu-4", "gpu-1", "gpu-2"], seen, before)
    assert [host.name for host in known] == ["gpu-4", "gpu-1", "gpu-2"]
    assert [each.port for host in known for each in host.servers] == [8000, 9000, 8000]


def test_a_host_that_serves_nothing_any_more_is_no_target() -> None:
    assert fleet(["gpu-1"], {"gpu-1": fronted("gpu-1").model_copy(update={"servers": ()})}, (fronted("gpu-1"),)) == ()


def test_in_a_turn_both_releases_are_known_and_the_lower_limit_counts() -> None:
    before, after = (server(at_once=256), server("tiny-1", 8001)), (server(at_once=64), server("tiny-0", 9000))
    assert union(before, after) == (server(at_once=64), server("tiny-1", 8001), server("tiny-0", 9000))
