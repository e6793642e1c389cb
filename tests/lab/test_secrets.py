"""Secrets end in one 0600 file and nowhere else, however much a run is asked to tell."""

import contextlib
import json
import os
import re
import secrets
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from rackhand.lab.connector import CHECKOUT
from rackhand.lab.fleet import Fleet
from rackhand.lab.host import LabHost
from rackhand.models import cache
from rackhand.models.hub import Place, Snapshot
from tests.lab.deploying import Result, World
from tests.lab.evidence import healthy, only_line

pytestmark = pytest.mark.lab

NAME = "secret"
KEY, TOKEN = (f"canary-{kind}-{secrets.token_hex(12)}" for kind in ("key", "token"))
VARIABLE = "RACKHAND_TEST_KEY"
H100 = {NAME: {"lab_personality": "1xH100"}}
TALKATIVE = ("-y", "-vvv", "--debug", "--diff", "--json")
PACKED = re.compile(r"eJ[A-Za-z0-9+/]{60}")
REVISION = "0123456789abcdef0123456789abcdef01234567"


@dataclass(frozen=True, kw_only=True)
class Told:
    """A talkative run, what the host's process list showed during it, and what pyinfra logged beside it."""

    result: Result
    processes: str
    logged: str


@pytest.fixture(scope="module")
def world(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(fleet=fleet, directory=tmp_path_factory.mktemp("secrets"))


@pytest.fixture(scope="module")
def host(world: World) -> Iterator[LabHost]:
    host = world.fleet.up(NAME, "1xH100")
    host.wait_ssh()
    yield host
    world.fleet.remove(NAME)


@pytest.fixture(scope="module")
def wishes(world: World) -> dict[str, str]:
    """Name the sources of both secrets, one in the environment and one in a file."""
    source = world.directory / "token"
    source.write_text(f"{TOKEN}\n")
    source.chmod(0o600)
    return {"serve_api_key_from": f"env:{VARIABLE}", "model_hub_token_from": f"file:{source}", "serve_host": "0.0.0.0"}


@pytest.fixture(scope="module")
def told(world: World, host: LabHost, wishes: dict[str, str]) -> Told:
    """Bring a bare host all the way up with everything that makes pyinfra talk."""
    log = CHECKOUT / "pyinfra-debug.log"
    log.unlink(missing_ok=True)
    with process_lists() as processes:
        result = world.deploy(H100, *TALKATIVE, environment={VARIABLE: KEY}, driver_reboot_timeout_s=60, **wishes)
    logged = log.read_text() if log.exists() else ""
    log.unlink(missing_ok=True)
    return Told(result=result, processes="\n".join(processes), logged=logged)


@contextlib.contextmanager
def process_lists() -> Iterator[set[str]]:
    """Collect every command line that any process shows meanwhile, those of practice hosts among them."""
    seen: set[str] = set()
    over = threading.Event()
    watching = threading.Thread(target=_watch, args=(seen, over))
    watching.start()
    try:
        yield seen
    finally:
        over.set()
        watching.join()


def _watch(seen: set[str], over: threading.Event) -> None:
    while not over.wait(0.05):
        for process in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                seen.add(process.read_bytes().replace(b"\0", b" ").decode(errors="replace"))


def holding(root: Path, *secrets: str) -> list[str]:
    """Name the files below a directory that hold one of the secrets."""
    files = (path for path in root.rglob("*") if path.is_file() and not path.is_symlink())
    return [
        str(path.relative_to(root)) for path in files if any(word.encode() in path.read_bytes() for word in secrets)
    ]


def models(host: LabHost, key: str | None) -> int:
    """Ask a server from outside for its models and return the HTTP status."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    request = urllib.request.Request(f"http://{host.address}:8000/v1/models", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_a_public_server_with_a_key_becomes_healthy(told: Told) -> None:
    assert told.result.status == 0, told.result.printed
    assert healthy(told.result, NAME)


def test_a_talkative_run_tells_no_secret(told: Told, world: World) -> None:
    result = told.result
    assert result.report["hosts"]
    assert len(result.printed) > 10_000
    assert json.loads(result.stdout[result.stdout.index("{") :])
    for text in (result.printed, json.dumps(result.report), told.logged):
        assert KEY not in text
        assert TOKEN not in text
        assert not PACKED.search(text)
    assert holding(world.directory / "reports", KEY, TOKEN) == []
    assert holding(world.directory, KEY, TOKEN) == ["token"]


def test_no_process_ever_shows_a_secret(told: Told) -> None:
    assert "vllm serve --config" in told.processes
    assert "python3 -c import sys,json,zlib,base64" in told.processes
    assert KEY not in told.processes
    assert TOKEN not in told.processes


def test_the_key_lies_in_one_file_that_only_root_may_read(told: Told, host: LabHost) -> None:
    release = told.result.host(NAME)["release"]
    file = f"opt/rackhand/releases/{release}/instances/tiny-0.env"
    assert holding(host.rootfs, KEY, TOKEN) == [file]
    assert host.run(["stat", "-c", "%a %U:%G", f"/{file}"]).stdout.strip() == "600 root:root"
    volatile = host.run(["grep", "-rlFf", "-", "/run", "/tmp", "/dev/shm"], stdin=f"{KEY}\n{TOKEN}\n")
    assert volatile.stdout == ""


def test_the_journal_and_the_units_tell_no_secret(told: Told, host: LabHost) -> None:
    journal = host.run(["journalctl", "--no-pager", "-o", "export"]).stdout
    assert "vllm@tiny-0" in journal
    unit = host.run(["systemctl", "show", "vllm@tiny-0"]).stdout
    for text in (journal, unit):
        assert KEY not in text
        assert TOKEN not in text


def test_the_server_answers_from_outside_with_the_key_only(told: Told, host: LabHost) -> None:
    assert models(host, None) == 401
    assert models(host, "wrong") == 401
    assert models(host, KEY) == 200


def test_the_printed_inventory_holds_no_secret(told: Told, world: World) -> None:
    argv = [*world.command()[:2], "debug-inventory"]
    environment = {**os.environ, VARIABLE: KEY}
    done = subprocess.run(argv, cwd=CHECKOUT, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert f"env:{VARIABLE}" in done.stdout + done.stderr
    assert KEY not in done.stdout + done.stderr
    assert TOKEN not in done.stdout + done.stderr


def test_a_second_run_with_the_same_key_changes_nothing(told: Told, world: World, wishes: dict[str, str]) -> None:
    result = world.deploy(H100, environment={VARIABLE: KEY}, **wishes)
    assert result.status == 0, result.printed
    assert result.changed(NAME) == []


def test_a_download_that_fails_tells_no_token(
    told: Told, world: World, host: LabHost, wishes: dict[str, str], tmp_path: Path
) -> None:
    hub = {"model_path": None, "model_hub_id": "some/model", "model_revision": REVISION}
    endpoint = {"model_hub_endpoint": f"{host.repository_url}/hub"}
    # The model is known from before, so that only its weights are missing on the hub.
    config = json.loads((Path(world.shared()["model_path"]) / "config.json").read_text())
    place = Place(hub_id="some/model", revision=REVISION)
    cache.save(place, Snapshot(commit=REVISION, config=config), tmp_path / "rackhand/hub")
    known = {VARIABLE: KEY, "XDG_CACHE_HOME": str(tmp_path)}
    with process_lists() as processes:
        result = world.deploy(H100, *TALKATIVE, environment=known, **wishes, **hub, **endpoint)
    (CHECKOUT / "pyinfra-debug.log").unlink(missing_ok=True)
    assert result.status == 1
    assert result.problem(NAME)["where"] == f"@lab/{NAME}"
    assert result.problem(NAME)["code"] == "model-download"
    assert any("import sys,json,zlib" in line for line in processes)  # the lists do show what runs
    for text in (result.printed, json.dumps(result.report), "\n".join(processes)):
        assert TOKEN not in text
    assert holding(host.rootfs, TOKEN) == []


@pytest.mark.parametrize(
    ("data", "code", "words"),
    [
        ({}, "settings", ("serve_host 0.0.0.0", "serve_api_key_from")),
        ({"serve_api_key_from": "env:RACKHAND_NO_SUCH"}, "secret", ("serve_api_key_from", "env:RACKHAND_NO_SUCH")),
        ({"serve_api_key_from": "file:/nonexistent/key"}, "secret", ("/nonexistent/key", "0600")),
    ],
)
def test_a_public_server_without_a_key_is_refused(
    told: Told, world: World, host: LabHost, data: dict[str, Any], code: str, words: tuple[str, ...]
) -> None:
    result = world.deploy(H100, serve_host="0.0.0.0", **data)
    assert result.status == 1
    assert result.changed(NAME) == []
    line = only_line(result, NAME)
    assert f"[{code}]" in line
    assert [word for word in words if word not in line] == []
    assert models(host, KEY) == 200
