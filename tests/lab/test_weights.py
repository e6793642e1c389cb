"""Weights on practice hosts: copied or downloaded, checked, resumed, brought again; and the environment beside them."""

import os
import secrets
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rackhand.lab import tiny_model, wheels
from rackhand.lab.fleet import Fleet
from rackhand.lab.host import LabHost
from tests.lab.deploying import STANDIN, World
from tests.lab.failing import failed
from tests.lab.hub import Hub, serve

pytestmark = pytest.mark.lab

HOST = "weights"
ONE = {HOST: {"lab_personality": "1xL4"}}
LARGE_BYTES = 96 << 20
NAME, COMMIT, WRONG_COMMIT = "acme/tiny", "a1" * 20, "b2" * 20
HUB_REQUIREMENTS = Path(__file__).parents[1] / "fixtures" / "hub" / "requirements.txt"


@pytest.fixture(scope="module")
def world(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(fleet=fleet, directory=tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def host(world: World) -> Iterator[LabHost]:
    """One host that serves the tiny model, copied from here."""
    result = world.deploy(ONE)
    assert result.status == 0, result.printed
    yield world.fleet.host(HOST)
    world.fleet.remove(HOST)


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """Another model, whose copy takes long enough to disturb it."""
    model = tiny_model.build(tmp_path / "large")
    (model / "padding.txt").write_bytes(os.urandom(1 << 20) * (LARGE_BYTES >> 20))
    return model


@pytest.fixture(scope="module")
def hub(world: World, host: LabHost) -> Iterator[Hub]:
    """A hub with another tiny model, and one damaged file to switch on."""
    model = tiny_model.build(world.directory / "hub" / "tiny")
    (model / "README.md").write_text("# tiny\n")
    with serve(Hub(model=model, name=NAME, commit=COMMIT, token=f"hf_{secrets.token_hex(12)}"), bridge(host)) as hub:
        yield hub


def bridge(host: LabHost) -> str:
    return f"{host.prefix}.1"


def root(host: LabHost) -> Path:
    return Path(f"/proc/{host.pid}/root/opt/rackhand")


def on_host(host: LabHost) -> dict[str, str]:
    """Return the checksums of the model that is being served, computed on the host."""
    done = host.run(["sh", "-c", "cd /opt/rackhand/current/model/ && sha256sum *"])
    pairs = (line.split() for line in done.stdout.splitlines())
    return {name: digest for digest, name in pairs if name != "rackhand.json"}


def models(host: LabHost) -> set[str]:
    return {path.name for path in (root(host) / "models").iterdir()}


def test_a_copied_model_has_the_checksums_it_has_here(world: World, host: LabHost) -> None:
    model = Path(world.shared()["model_path"])
    assert on_host(host) == tiny_model.checksums(model)


def test_weights_that_somebody_truncated_or_removed_are_brought_again(world: World, host: LabHost) -> None:
    sound = on_host(host)
    host.run(["truncate", "-s", "1000", "/opt/rackhand/current/model/model.safetensors"])
    host.run(["rm", "/opt/rackhand/current/model/tokenizer.json"])
    result = world.deploy(ONE)
    assert result.status == 0, result.printed
    assert "Weights | present and checked" in result.changed(HOST)
    assert on_host(host) == sound
    host.run(["sh", "-c", "rm -r /opt/rackhand/models/*"])
    result = world.deploy(ONE)
    assert result.status == 0, result.printed
    assert on_host(host) == sound


def test_a_damaged_upload_is_detected_and_only_that_file_is_sent_again(
    world: World, host: LabHost, large: Path
) -> None:
    before = models(host)
    over = threading.Event()
    damager = threading.Thread(target=damage, args=(host, over))
    damager.start()
    try:
        result = world.deploy(ONE, model_path=str(large))
    finally:
        over.set()
        damager.join()
    line = failed(result, HOST, "model-checksum")
    assert "config.json arrived damaged" in line
    assert models(host) == before
    arrived = next((root(host) / "incoming").glob("tiny@*/padding.txt")).stat()
    healed = world.deploy(ONE, model_path=str(large))
    assert healed.status == 0, healed.printed
    assert on_host(host) == tiny_model.checksums(large)
    again = (root(host) / "current" / "model" / "padding.txt").stat()
    assert (again.st_ino, again.st_mtime_ns) == (arrived.st_ino, arrived.st_mtime_ns), "it was not sent again"


def damage(host: LabHost, over: threading.Event) -> None:
    """Change a byte of the first file while the large one is still on its way."""
    while not over.is_set():
        for path in (root(host) / "incoming").glob("tiny@*/padding.txt"):
            small = path.with_name("config.json")
            small.write_bytes(b"[" + small.read_bytes()[1:])
            return
        time.sleep(0.002)


def from_hub(world: World, hub: Hub, **more: Any) -> dict[str, Any]:
    """Return the settings of a model on the hub, and an environment that can download."""
    requirements = world.directory / "with-hub.txt"
    requirements.write_text(wheels.requirements(STANDIN) + HUB_REQUIREMENTS.read_text())
    settings = {
        "engine_requirements": str(requirements),
        "model_path": None,
        "model_hub_id": NAME,
        "model_revision": COMMIT,
        "model_hub_endpoint": hub.url,
        "model_hub_token_from": "env:HUB_TOKEN",
    }
    return {**settings, **more}


def test_a_wrong_token_is_refused_by_the_hub_and_said_so(world: World, host: LabHost, hub: Hub) -> None:
    before = models(host)
    wrong = f"hf_{secrets.token_hex(12)}"
    result = world.deploy(ONE, environment={"HUB_TOKEN": wrong}, **from_hub(world, hub))
    line = failed(result, HOST, "hub-refused")
    assert NAME in line
    assert "model_hub_token_from" in line
    assert wrong not in result.printed
    assert {token for _, _, token in hub.asked} == {wrong}
    assert models(host) == before


def test_a_wrong_revision_is_named(world: World, host: LabHost, hub: Hub) -> None:
    settings = from_hub(world, hub, model_revision=WRONG_COMMIT)
    line = failed(world.deploy(ONE, environment={"HUB_TOKEN": hub.token}, **settings), HOST, "hub-missing")
    assert f"{NAME} at revision {WRONG_COMMIT[:12]}" in line


def test_an_unreachable_hub_is_named(world: World, host: LabHost, hub: Hub) -> None:
    settings = from_hub(world, hub, model_hub_endpoint=f"http://{bridge(host)}:9")
    line = failed(world.deploy(ONE, environment={"HUB_TOKEN": hub.token}, **settings), HOST, "model-download")
    assert "model_hub_endpoint" in line


def test_a_file_that_the_hub_sends_damaged_is_refused(world: World, host: LabHost, hub: Hub) -> None:
    before = models(host)
    hub.damaged = "model.safetensors"
    try:
        result = world.deploy(ONE, environment={"HUB_TOKEN": hub.token}, **from_hub(world, hub))
    finally:
        hub.damaged = ""
    assert f"model.safetensors of {NAME}" in failed(result, HOST, "model-checksum")
    assert models(host) == before


def test_a_model_comes_from_the_hub_and_its_token_is_in_no_log(world: World, host: LabHost, hub: Hub) -> None:
    hub.asked.clear()
    options = ("-y", "-vvv", "--debug", "--diff")
    result = world.deploy(ONE, *options, environment={"HUB_TOKEN": hub.token}, **from_hub(world, hub))
    assert result.status == 0, result.printed[-4000:]
    assert on_host(host) == tiny_model.checksums(hub.model)
    assert {token for _, _, token in hub.asked} == {hub.token}
    assert hub.token not in result.printed
    assert hub.token not in str(result.report)
    places = ["/opt/rackhand", "/var/log", "/etc", "/run", "/root", "/tmp"]
    found = host.run(["grep", "-rlsF", "--exclude-dir=uv", hub.token, *places])
    assert found.stdout == ""
    assert hub.token not in host.run(["journalctl", "--no-pager"]).stdout
    again = world.deploy(ONE, environment={"HUB_TOKEN": hub.token}, **from_hub(world, hub))
    assert again.changed(HOST) == []
