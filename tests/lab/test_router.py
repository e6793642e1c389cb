"""A router from the distribution's package in front of two GPU hosts: deployed, drained, reloaded, attacked."""

import time
from collections.abc import Iterator

import pytest

from rackhand.lab.fleet import Fleet
from tests.lab.deploying import World
from tests.lab.routed import PUBLIC, Routed, told

pytestmark = pytest.mark.lab

# Longest time until a router has followed a drain, in seconds.
FOLLOWS_S = 1.5
UP = {"gate1:tiny-0:8000": "UP", "gate2:tiny-0:8000": "UP", "gate2:tiny-1:8001": "UP"}
FAULTS = "/etc/rackhand-lab/standin.conf"
BUSY = "for n in 1 2 3 4 5 6; do timeout 4 python3 -c 'while True: pass' & done"


@pytest.fixture(scope="module")
def routed(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Routed]:
    """Deploy two GPU hosts with three servers, and a router without any GPU."""
    world = World(fleet=fleet, directory=tmp_path_factory.mktemp("routed"), routers=("front",))
    gpus = {"gate1": {"lab_personality": "1xH100"}, "gate2": {"lab_personality": "2xRTX4090"}}
    made = Routed(world=world, hosts={"front": {"lab_personality": "none"}, **gpus})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAB_ENGINE_KEY", "sk-engines")
        patch.setenv("LAB_CLIENT_KEY", "sk-clients")
        made.serves()
        yield made
        for name in made.hosts:
            fleet.remove(name)


@pytest.fixture(autouse=True)
def whole(routed: Routed) -> Iterator[None]:
    """Begin and leave each test with everything in service."""
    routed.becomes(UP, 15)
    yield
    for name in ("gate1", "gate2"):
        routed.does(name, f"rm -f {FAULTS}; sed -i s/drain/ready/ /run/rackhand/*.state")


def test_requests_get_through_and_running_it_again_changes_nothing(routed: Routed) -> None:
    assert routed.completes()
    assert routed.completes(stream=True)
    again = routed.serves()
    assert {host["status"] for host in again.report["hosts"]} == {"unchanged"}
    assert again.host("front")["ssh_commands"] <= 12


def test_a_drain_reaches_the_router_and_survives_whatever_happens_to_it(routed: Routed) -> None:
    drained = {"gate2:tiny-0:8000": "DRAIN"}
    routed.does("gate2", "echo drain >/run/rackhand/tiny-0.state")
    assert routed.becomes(drained, 5) < FOLLOWS_S
    for how in ("reload", "restart"):
        # The host's own word would take half a second to come again.
        routed.does("gate2", "systemctl stop rackhand-state.socket rackhand-state.service")
        routed.does("front", f"systemctl {how} haproxy")
        routed.becomes({**UP, **drained}, 10)
        routed.does("gate2", "systemctl start rackhand-state.socket")
    routed.does("gate2", "echo ready >/run/rackhand/tiny-0.state")
    assert routed.becomes(UP, 5) < FOLLOWS_S


def test_a_router_that_reboots_serves_again_by_itself(routed: Routed) -> None:
    routed.host("front").reboot()
    routed.becomes(UP, 20)
    assert routed.completes()


def test_reloads_under_load_lose_nothing(routed: Routed) -> None:
    with routed.load() as ended:
        for _ in range(3):
            routed.does("front", "systemctl reload haproxy")
            before = len(ended())
            while len(ended()) < before + 100:
                assert routed.completes()
    print(f"{len(ended())} requests, {ended().count(False)} lost")
    assert ended().count(False) == 0


def test_an_engine_that_says_it_is_ill_leaves_and_comes_back(routed: Routed) -> None:
    routed.host("gate1").write(FAULTS, "fault unhealthy\n")
    routed.becomes({"gate1:tiny-0:8000": "DOWN"}, 10)
    assert all(routed.completes() for _ in range(10))
    routed.host("gate1").write(FAULTS, "")
    routed.becomes(UP, 10)


def test_what_is_not_the_api_is_not_public(routed: Routed) -> None:
    paths = ("/metrics", "/invocations", "/tokenize", "/health", "/version", "/v1/load_lora_adapter")
    assert {routed.asks(path)[0] for path in paths} == {404}
    assert routed.asks("/healthz", key="")[0] == 200
    assert "haproxy_server_status" in routed.does("front", "curl -s http://127.0.0.1:8404/metrics")


def test_a_key_for_clients_is_asked_for_and_lies_nowhere_in_the_clear(routed: Routed) -> None:
    assert routed.asks(key="")[0] == 401
    result = routed.serves(router_api_key_from="env:LAB_CLIENT_KEY")
    assert [routed.asks(key=key)[0] for key in ("sk-clients", "sk-engines", "")] == [200, 401, 401]
    everything = routed.does("front", "cat /opt/rackhand/router/current/clients /etc/systemd/system/haproxy*.d/*")
    assert "sk-" not in everything + result.printed + str(result.report)
    private = "stat -c %a /opt/rackhand/router/current/server.key /opt/rackhand/router/current/nginx.conf"
    assert routed.does("front", private).split() == ["600", "600"]
    routed.serves()


def test_a_certificate_that_is_not_there_changes_nothing_and_one_that_is_serves(routed: Routed) -> None:
    refused = routed.deploy(router_tls_certificate="/etc/ssl/private/front.pem")
    assert refused.problem("front")["code"] == "router-config"
    assert "/etc/ssl/private/front.pem" in " ".join(refused.problem("front")["evidence"])
    assert routed.completes()
    make = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=front -keyout /tmp/k -out /tmp/c 2>/dev/null"
    routed.does("front", f"{make}; cat /tmp/k /tmp/c >/etc/ssl/private/front.pem; rm /tmp/k /tmp/c")
    routed.serves(router_tls_certificate="/etc/ssl/private/front.pem")
    assert routed.asks(tls=True)[0] == 200
    routed.serves()
    assert routed.completes()


def test_a_port_that_is_taken_is_named_and_the_router_goes_on_as_before(routed: Routed) -> None:
    refused = routed.deploy(router_port=22)
    assert refused.problem("front")["code"] == "router-start"
    assert "Address already in use" in " ".join(refused.problem("front")["evidence"])
    assert {host["status"] for host in refused.report["hosts"] if host["role"] == "gpu"} <= {"unchanged", "not run"}
    assert routed.completes()


def test_a_host_that_was_left_out_stays_known_and_one_that_is_gone_is_dropped(routed: Routed) -> None:
    assert routed.deploy("--limit", "@lab/front", "--limit", "@lab/gate1", "-y").status == 0
    assert set(routed.states()) == set(UP)
    some = {name: data for name, data in routed.hosts.items() if name != "gate2"}
    assert routed.world.deploy(some, **PUBLIC).status == 0
    assert set(routed.states()) == {"gate1:tiny-0:8000"}
    routed.serves()


def test_a_host_under_full_load_tells_its_state_at_once(routed: Routed) -> None:
    host = routed.host("gate1")
    host.run(["sh", "-c", BUSY + " >/dev/null 2>&1 &"])
    answers, over = [told(host, "tiny-0")], time.monotonic() + 3
    while time.monotonic() < over:
        answers.append(told(host, "tiny-0"))
    slowest = sorted(seconds for _, seconds in answers)[int(len(answers) * 0.99)]
    print(f"{len(answers)} answers, 99 of 100 within {slowest * 1000:.1f} ms")
    assert {answer for answer, _ in answers} == {"ready up"}
    assert slowest < 0.25


def test_the_listener_has_no_rights_and_comes_back(routed: Routed) -> None:
    host = routed.host("gate1")
    told(host, "tiny-0")
    first = routed.does("gate1", "systemctl show --value -p MainPID rackhand-state").strip()
    assert routed.does("gate1", f"awk '/^(Uid|CapEff)/ {{print $2}}' /proc/{first}/status").split()[0] != "0"
    exposure = routed.does("gate1", "systemd-analyze security rackhand-state.service | tail -1")
    assert float(exposure.split(":")[1].split()[0]) < 1.0, exposure
    routed.does("gate1", f"kill -9 {first}")
    assert told(host, "tiny-0")[0] == "ready up"


def test_haproxy_with_a_configuration_of_somebody_else_is_left_alone(routed: Routed) -> None:
    drop_in, own = "/etc/systemd/system/haproxy.service.d/rackhand.conf", "/etc/haproxy/haproxy.cfg"
    routed.does("front", f"rm {drop_in}; echo '# ours' >>{own}")
    refused = routed.deploy()
    assert refused.problem("front")["code"] == "router-foreign"
    routed.does("front", f"sed -i '/^# ours/d' {own}")
    assert routed.serves().host("front")["status"] == "healthy"
    assert routed.completes()
