"""A package index that goes away, lies, or lacks a Python: the old environment serves on, and no half one is used."""

import contextlib
import http.server
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typing_extensions import override

from rackhand.lab import shell, wheels
from rackhand.lab.fleet import Fleet
from rackhand.lab.host import LabHost
from rackhand.lab.standin_wheel import standin_wheel
from tests.lab.deploying import STANDIN, World
from tests.lab.failing import failed

pytestmark = pytest.mark.lab

HOST = "index"
ONE = {HOST: {"lab_personality": "1xL4"}}
TABLE = "rackhand-test-index"


@dataclass(kw_only=True)
class Index:
    """A page with one wheel; `cut` ends every download of it in the middle, as a network that goes away does."""

    content: bytes
    file_name: str
    cut: bool = False
    url: str = ""
    port: int = 0
    sent: int = 0


@contextlib.contextmanager
def serve(index: Index, address: str) -> Iterator[Index]:
    """Serve `index` on a free port of `address` while the body runs."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wheel = self.path.endswith(".whl")
            body = index.content if wheel else f'<a href="{index.file_name}">{index.file_name}</a>'.encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/zip" if wheel else "text/html")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            index.sent += wheel
            self.wfile.write(body[: len(body) // 2] if wheel and index.cut else body)

        @override
        def log_message(self, format: str, *args: object) -> None:
            """Stay silent."""

    server = http.server.ThreadingHTTPServer((address, 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    index.port = server.server_address[1]
    index.url = f"http://{address}:{index.port}/"
    try:
        yield index
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(scope="module")
def world(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(fleet=fleet, directory=tmp_path_factory.mktemp("index"))


@pytest.fixture(scope="module")
def host(world: World) -> Iterator[LabHost]:
    """One host that serves from an environment that nobody disturbed."""
    result = world.deploy(ONE)
    assert result.status == 0, result.printed
    yield world.fleet.host(HOST)
    world.fleet.remove(HOST)


@pytest.fixture(scope="module")
def index(host: LabHost) -> Iterator[Index]:
    wheel = standin_wheel(STANDIN)
    with serve(Index(content=wheel.to_bytes(), file_name=wheel.filename), f"{host.prefix}.1") as index:
        yield index


@contextlib.contextmanager
def no_route(host: LabHost, index: Index) -> Iterator[None]:
    """Drop what the host sends to the index, as a dead router does."""
    rule = f"ip saddr {host.address} tcp dport {index.port} drop"
    chain = f"chain in {{ type filter hook input priority 0; {rule}; }}"
    shell.run(["nft", "-f", "-"], stdin=f"table ip {TABLE} {{ {chain}; }}\n")
    try:
        yield
    finally:
        shell.run(["nft", "delete", "table", "ip", TABLE])


def other(world: World, index: Index, number: int, text: str = "") -> dict[str, Any]:
    """Return settings that need another environment, from our index alone and without what other tests cached."""
    requirements = world.directory / f"requirements-{number}.txt"
    requirements.write_text((text or wheels.requirements(STANDIN)) + "\n" * number)
    own = {
        "UV_FIND_LINKS": index.url,
        "UV_NO_INDEX": "1",
        "UV_CACHE_DIR": f"/opt/rackhand/cache/uv-{number}",
        "UV_HTTP_TIMEOUT": "4",
        "UV_HTTP_RETRIES": "1",
    }
    environment = {**world.shared()["engine_uv_env"], **own}
    return {"engine_requirements": str(requirements), "engine_uv_env": environment}


def state(host: LabHost) -> str:
    """Say which release is current and which process serves from it."""
    return host.run(["sh", "-c", "readlink /opt/rackhand/current; systemctl show -P MainPID vllm@tiny-0"]).stdout


def complete(host: LabHost) -> set[str]:
    return {path.parent.name for path in Path(f"/proc/{host.pid}/root/opt/rackhand/venvs").glob("*/rackhand.json")}


def test_an_index_that_goes_away_in_the_middle_leaves_no_environment_and_the_next_run_heals(
    world: World, host: LabHost, index: Index
) -> None:
    before, serving = complete(host), state(host)
    index.cut, index.sent = True, 0
    try:
        line = failed(world.deploy(ONE, **other(world, index, 1)), HOST, "package-index")
    finally:
        index.cut = False
    assert index.sent > 0
    assert "engine_uv_env" in line
    assert complete(host) == before
    assert state(host) == serving, "the old release serves on"
    healed = world.deploy(ONE, **other(world, index, 1))
    assert healed.status == 0, healed.printed
    assert len(complete(host)) == len(before) + 1
    assert state(host) != serving


def test_an_index_behind_a_dead_router_is_an_unreachable_index(world: World, host: LabHost, index: Index) -> None:
    before, serving = complete(host), state(host)
    with no_route(host, index):
        line = failed(world.deploy(ONE, **other(world, index, 2)), HOST, "package-index")
    assert index.url in line
    assert (complete(host), state(host)) == (before, serving)


def test_a_package_with_another_hash_is_not_installed(world: World, host: LabHost, index: Index) -> None:
    before, serving = complete(host), state(host)
    good = wheels.requirements(STANDIN)
    bad = good.rstrip()[:-8] + "deadbeef\n"
    line = failed(world.deploy(ONE, **other(world, index, 3, bad)), HOST, "package-hash")
    assert "vllm" in line
    assert (complete(host), state(host)) == (before, serving)
    installed = host.run(["sh", "-c", "ls -d /opt/rackhand/venvs/*/lib/python3*/site-packages/vllm | wc -l"])
    assert int(installed.stdout) == len(before), "nothing of it was unpacked"


def test_a_python_that_is_nowhere_is_named(world: World, host: LabHost) -> None:
    before, serving = complete(host), state(host)
    line = failed(world.deploy(ONE, engine_python="3.14"), HOST, "python-missing")
    assert "Python 3.14" in line
    assert "engine_python" in line
    assert (complete(host), state(host)) == (before, serving)
