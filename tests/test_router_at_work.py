"""The real HAProxy with our configuration in front of small servers: who gets in, where to, and what a drain costs."""

import contextlib
import http.client
import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from rackhand.remote import drain, front_door
from rackhand.remote.problem import Problem
from rackhand.routing.servers import Fronted
from tests.desks import DeskAtWork, desk_at_work
from tests.routers import Router, free_port, fronted, server

# Longest time until a router has followed a drain, in seconds: asks are half a second apart.
FOLLOWS_S = 1.5
INSIDE = (
    *(
        "/metrics",
        "/invocations",
        "/tokenize",
        "/detokenize",
        "/sleep",
        "/wake_up",
        "/server_info",
        "/docs",
        "/version",
    ),
    *("/openapi.json", "/health", "/v1/load_lora_adapter", "/v1/unload_lora_adapter", "/v1/load%5Flora_adapter"),
    *("//metrics", "/v1/../metrics", "/v1/%2e%2e/metrics", "/v1/%2E./metrics", "/models/tiny/metrics"),
    *("/models/tiny/v1/../../metrics", "/v1"),
)


class Engine(ThreadingHTTPServer):
    """A server that says of itself what it got; `sick` spoils its health, `slow_s` its answers."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, instance: str) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.instance, self.sick, self.slow_s = instance, False, 0.0
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    @property
    def port(self) -> int:
        return int(self.server_address[1])


class Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Engine

    def do_GET(self) -> None:
        if self.path == "/health":
            self.send_error(503) if self.server.sick else self.tell({})
            return
        self.tell({"instance": self.server.instance, "path": self.path, "key": self.headers.get("Authorization")})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if b'"stream": true' not in body:
            time.sleep(self.server.slow_s)
            self.do_GET()
            return
        self.send_response(200)
        self.send_header("Connection", "close")
        self.end_headers()
        for event in ("one", "two", "[DONE]"):
            self.wfile.write(f"data: {event}\n\n".encode())
            time.sleep(self.server.slow_s)

    def tell(self, document: dict[str, Any]) -> None:
        data = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def handle(self) -> None:
        with contextlib.suppress(ConnectionResetError):  # HAProxy has seen enough of a check
            super().handle()

    def log_message(self, format: str, *args: Any) -> None:
        pass


class World:
    """Engines, the listener of their host, and the router in front."""

    def __init__(self, router: Router, desk: DeskAtWork) -> None:
        self.router, self.desk = router, desk
        self.engines: dict[str, Engine] = {}

    def host(self, *instances: str, model: str = "tiny") -> Fronted:
        for each in instances:
            self.engines[each] = Engine(each)
            self.desk.enable(each)
        servers = [server(each, self.engines[each].port, model=model) for each in instances]
        return fronted("gpu", *servers, address="127.0.0.1", state_port=self.desk.address[1])

    def up(self, *hosts: Fronted, **wished: Any) -> None:
        self.router.render(hosts, **wished)
        self.router.start()
        self.router.becomes({name: "UP" for name in self.router.states()})

    def named(self, instance: str) -> str:
        return f"gpu:{instance}:{self.engines[instance].port}"

    def asks(self, path: str, body: object = None, method: str = "", **headers: str) -> tuple[int, Any]:
        line = http.client.HTTPConnection("127.0.0.1", self.router.port, timeout=20)
        data = body if isinstance(body, bytes) else json.dumps(body).encode() if body is not None else None
        try:
            line.request(
                method or ("POST" if data else "GET"), path, data, {k.replace("_", "-"): v for k, v in headers.items()}
            )
            answer = line.getresponse()
            text = answer.read().decode()
            return answer.status, json.loads(text) if text[:1] == "{" else text
        finally:
            line.close()

    def door(self, key: str = "", **changes: Any) -> dict[str, Any]:
        return {"host": "127.0.0.1", "port": self.router.port, "tls": False, "key": key, **changes}


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with desk_at_work(tmp_path, monkeypatch) as desk:
        found = World(Router(tmp_path), desk)
        try:
            yield found
        finally:
            found.router.stop()
            for engine in found.engines.values():
                engine.shutdown()
                engine.server_close()


@pytest.fixture
def load(world: World) -> Iterator[Callable[[], list[int]]]:
    """Keep asking from eight clients; called, it stops and returns every status."""
    over, statuses = threading.Event(), []

    def client(number: int) -> None:
        while not over.is_set():
            try:
                statuses.append(world.asks("/v1/completions", {"model": "tiny", "stream": number % 2 == 0})[0])
            except OSError:
                statuses.append(0)

    pool = ThreadPoolExecutor(8)
    clients: list[Any] = []

    def begin() -> Callable[[], list[int]]:
        clients.extend(pool.submit(client, number) for number in range(8))
        return stop

    def stop() -> list[int]:
        over.set()
        for each in clients:
            each.result(30)
        return statuses

    yield begin  # type: ignore[misc]
    over.set()
    pool.shutdown()


def test_what_is_not_the_api_stays_inside(world: World) -> None:
    world.up(world.host("tiny-0"))
    assert {path: (world.asks(path)[0], world.asks(path, {})[0]) for path in INSIDE} == dict.fromkeys(
        INSIDE, (404, 404)
    )


def test_the_api_gets_through_and_a_path_may_name_the_model(world: World) -> None:
    world.up(world.host("tiny-0"))
    assert world.asks("/v1/chat/completions", {"model": "tiny"})[1]["path"] == "/v1/chat/completions"
    assert world.asks("/models/tiny/v1/completions?a=b", {})[1]["path"] == "/v1/completions?a=b"
    assert world.asks("/healthz") == (200, "ok\n")
    assert world.asks("/healthz/tiny") == (200, "ok\n")
    assert world.asks("/healthz/other")[0] == 503


def test_only_who_has_the_key_gets_in_and_the_servers_get_their_own(world: World) -> None:
    world.up(world.host("tiny-0"), client="sk-client", server="sk-server")
    for wrong in (
        {},
        {"Authorization": "Bearer sk-server"},
        {"Authorization": "sk-clien"},
        {"Authorization": "Basic eA=="},
    ):
        assert world.asks("/v1/models", **wrong)[0] == 401
    for right in ("Bearer sk-client", "bearer  sk-client"):
        assert world.asks("/v1/models", Authorization=right)[1]["key"] == "Bearer sk-server"
    assert world.asks("/healthz")[0] == 200


def test_without_a_key_of_the_routers_own_that_of_the_client_is_passed_on(world: World) -> None:
    world.up(world.host("tiny-0"), server="sk-server")
    assert world.asks("/v1/models", Authorization="Bearer mine")[1]["key"] == "Bearer mine"
    assert world.asks("/v1/models")[1]["key"] is None


def test_requests_find_their_model_by_header_path_or_body(world: World) -> None:
    world.up(world.host("tiny-0"), world.host("big-0", model="Big.7B"))
    big = {"messages": "x" * 100_000, "model": "Big.7B"}
    assert world.asks("/v1/completions", big)[1]["instance"] == "big-0"
    assert world.asks("/v1/completions", {"model": "tiny"})[1]["instance"] == "tiny-0"
    assert world.asks("/v1/completions", {"model": "tiny"}, X_Model="Big.7B")[1]["instance"] == "big-0"
    assert world.asks("/models/Big.7B/v1/completions", {"model": "tiny"})[1]["instance"] == "big-0"
    assert [each["id"] for each in world.asks("/v1/models")[1]["data"]] == ["Big.7B", "tiny"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"model": "nobody"}, 404),
        ({"prompt": "x"}, 400),
        (b"no JSON", 400),
        ({"m": "x" * 300_000, "model": "tiny"}, 400),
    ],
    ids=["unknown", "none", "no JSON", "beyond the buffer"],
)
def test_a_request_whose_model_is_not_found_is_told_so(world: World, body: object, status: int) -> None:
    world.up(world.host("tiny-0"), world.host("big-0", model="big"))
    answer = world.asks("/v1/completions", body)
    assert (answer[0], answer[1]["error"]["code"]) == (status, status)


def test_a_long_request_gets_through_where_the_header_names_its_model(world: World) -> None:
    world.up(world.host("tiny-0"), world.host("big-0", model="big"))
    assert world.asks("/v1/completions", {"m": "x" * 3_000_000}, X_Model="big")[1]["instance"] == "big-0"


def test_requests_without_a_length_or_beyond_the_limit_are_refused(world: World) -> None:
    world.up(world.host("tiny-0"))
    assert world.asks("/v1/completions", method="POST", Transfer_Encoding="chunked")[0] == 411
    assert world.asks("/v1/completions", method="POST", Content_Length=str(65 << 20))[0] == 413


def test_a_drained_server_gets_nothing_new_within_a_second_and_a_half(world: World) -> None:
    world.up(world.host("tiny-0", "tiny-1"))
    drain.say("tiny-0", drain.DRAIN)
    assert world.router.becomes({world.named("tiny-0"): "DRAIN", world.named("tiny-1"): "UP"}) < FOLLOWS_S
    assert {world.asks("/v1/models")[1]["instance"] for _ in range(20)} == {"tiny-1"}
    drain.say("tiny-0", drain.READY)
    assert world.router.becomes({world.named("tiny-0"): "UP", world.named("tiny-1"): "UP"}) < FOLLOWS_S


def test_a_stream_goes_on_when_its_server_is_drained_and_the_router_reloaded(world: World) -> None:
    world.up(world.host("tiny-0"))
    world.engines["tiny-0"].slow_s = 1.0
    with ThreadPoolExecutor(1) as pool:
        stream = pool.submit(world.asks, "/v1/completions", {"model": "tiny", "stream": True})
        time.sleep(0.2)
        drain.say("tiny-0", drain.DRAIN)
        world.router.becomes({world.named("tiny-0"): "DRAIN"})
        world.router.reload()
        assert stream.result(20) == (200, "data: one\n\ndata: two\n\ndata: [DONE]\n\n")


def test_drained_servers_stay_drained_over_a_reload_and_new_ones_wait_for_their_first_check(world: World) -> None:
    first = world.host("tiny-0", "tiny-1")
    world.up(first)
    drain.say("tiny-0", drain.DRAIN)
    world.router.becomes({world.named("tiny-0"): "DRAIN", world.named("tiny-1"): "UP"})
    gone = fronted("late", server("late-0", 1), address="127.0.0.1", state_port=world.desk.address[1])
    world.router.render([first, gone])
    world.router.reload()
    states = world.router.states()
    assert (states[world.named("tiny-0")], states[world.named("tiny-1")]) == ("DRAIN", "UP")
    assert states["late:late-0:1"] == "DOWN"


def test_without_any_server_clients_are_told_when_to_come_back(world: World) -> None:
    world.up(world.host("tiny-0"))
    drain.say("tiny-0", drain.DRAIN)
    world.router.becomes({world.named("tiny-0"): "DRAIN"})
    line = http.client.HTTPConnection("127.0.0.1", world.router.port, timeout=5)
    line.request("GET", "/v1/models")
    answer = line.getresponse()
    assert (answer.status, answer.getheader("Retry-After")) == (503, "2")
    assert json.loads(answer.read())["error"]["code"] == 503
    line.close()
    assert world.asks("/healthz")[0] == 503


def test_an_engine_that_is_not_healthy_leaves_and_comes_back(world: World) -> None:
    world.up(world.host("tiny-0", "tiny-1"))
    world.engines["tiny-0"].sick = True
    world.router.becomes({world.named("tiny-0"): "DOWN", world.named("tiny-1"): "UP"})
    world.engines["tiny-0"].sick = False
    world.router.becomes({world.named("tiny-0"): "UP", world.named("tiny-1"): "UP"})


def test_a_refused_connection_goes_to_another_server(world: World) -> None:
    world.up(world.host("tiny-0", "tiny-1"))
    world.engines["tiny-0"].shutdown()
    world.engines["tiny-0"].server_close()
    assert [world.asks("/v1/completions", {"model": "tiny"})[0] for _ in range(20)] == [200] * 20


def test_reloads_and_drains_under_load_lose_nothing(world: World, load: Any) -> None:
    hosts = world.host("tiny-0", "tiny-1", "tiny-2")
    world.up(hosts)
    stop = load()
    for number in (0, 1, 2):
        drain.say(f"tiny-{number}", drain.DRAIN)
        world.router.reload()
        time.sleep(1)
        drain.say(f"tiny-{number}", drain.READY)
        time.sleep(1)
    statuses = stop()
    print(f"{len(statuses)} requests, {len([each for each in statuses if each != 200])} failed")
    assert len(statuses) > 100
    assert set(statuses) == {200}


def test_a_connection_that_was_idle_during_a_reload_gets_its_next_request_answered(world: World) -> None:
    world.up(world.host("tiny-0"))
    line = http.client.HTTPConnection("127.0.0.1", world.router.port, timeout=5)
    line.request("GET", "/v1/models")
    assert line.getresponse().read()
    world.router.reload()
    line.request("GET", "/v1/models")
    answer = line.getresponse()
    assert (answer.status, answer.getheader("Connection")) == (200, "close")
    line.close()


def test_a_session_stays_on_its_server_and_comes_back_to_it_after_a_drain(world: World) -> None:
    world.up(world.host("tiny-0", "tiny-1", "tiny-2"), router_balance="hash")
    asked = [f"session-{number}" for number in range(30)]

    def homes() -> dict[str, str]:
        return {each: world.asks("/v1/models", X_Session_Id=each)[1]["instance"] for each in asked}

    before = homes()
    assert homes() == before
    assert set(before.values()) == {"tiny-0", "tiny-1", "tiny-2"}
    up = {world.named(each): "UP" for each in world.engines}
    drain.say("tiny-0", drain.DRAIN)
    world.router.becomes({**up, world.named("tiny-0"): "DRAIN"})
    moved = homes()
    assert {each: home for each, home in moved.items() if before[each] != "tiny-0"}.items() <= before.items()
    drain.say("tiny-0", drain.READY)
    world.router.becomes(up)
    assert homes() == before


def test_metrics_and_statistics_are_on_the_management_port(world: World) -> None:
    world.up(world.host("tiny-0"), router_stats_port=(port := free_port()))
    line = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    line.request("GET", "/metrics")
    assert b"haproxy_server_status" in line.getresponse().read()
    line.request("GET", "/")
    assert line.getresponse().status == 200
    line.close()


def test_tokens_through_the_front_door_are_the_proof(world: World) -> None:
    world.up(world.host("tiny-0"), client="sk-client", server="sk-server")
    front_door.prove(world.door("sk-client"), ["tiny"], 5, 5)
    with pytest.raises(Problem, match="status 401"):
        front_door.prove(world.door("sk-wrong"), ["tiny"], 5, 5)
    world.engines["tiny-0"].sick = True
    world.router.becomes({world.named("tiny-0"): "DOWN"})
    with pytest.raises(Problem, match="no server of it was in service"):
        front_door.prove(world.door("sk-client"), ["tiny"], 0.3, 5)


def test_the_front_door_may_have_tls(world: World, tmp_path: Path) -> None:
    pem = tmp_path / "door.pem"
    make = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "2",
    ]
    subprocess.run(
        [*make, "-subj", "/CN=door", "-keyout", pem, "-out", tmp_path / "crt"], check=True, capture_output=True
    )
    pem.write_text(pem.read_text() + (tmp_path / "crt").read_text())
    world.up(world.host("tiny-0"), router_tls_certificate=str(pem))
    front_door.prove(world.door(tls=True), ["tiny"], 5, 5)
    with pytest.raises(Problem):
        front_door.prove(world.door(), ["tiny"], 0.3, 5)
