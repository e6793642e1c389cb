"""A model that is missing or not the one that was wished is refused here, before any host changes."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rackhand.lab.fleet import Fleet
from tests.lab.deploying import Result, World
from tests.lab.evidence import files, only_line, touched

pytestmark = pytest.mark.lab

GOOD = "modgood"
HARDWARE = {"lab_personality": "1xH100", "gpu_count": 1}
ODD = ("modmissing", "modempty", "modsums", "modrevision", "modhub", "modtypo")
OTHER_REVISION = "0123456789ab" + 28 * "0"


@pytest.fixture(scope="module")
def world(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(fleet=fleet, directory=tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def result(world: World) -> Iterator[Result]:
    """Deploy once: the good host with the tiny model, each other host with one that is wrong in its own way."""
    tiny = Path(str(world.shared()["model_path"]))
    hosts = {GOOD: HARDWARE, **{name: {**HARDWARE, **_model(world.directory, tiny, name)} for name in ODD}}
    booted = {name: world.fleet.up(name, "1xH100") for name in hosts}
    for host in booted.values():
        host.wait_ssh()
        host.run(["systemctl", "is-system-running", "--wait"])
    before = {name: files(host) for name, host in booted.items()}
    result = world.deploy(hosts)
    for name, host in booted.items():
        assert touched(before[name], files(host)) == []
    yield result
    for name in hosts:
        world.fleet.remove(name)


def _model(directory: Path, tiny: Path, name: str) -> dict[str, Any]:
    copy = directory / name
    if name == "modmissing":
        return {"model_path": str(copy)}
    if name == "modempty":
        copy.mkdir()
        shutil.copy(tiny / "config.json", copy)
        return {"model_path": str(copy)}
    if name == "modsums":
        shutil.copytree(tiny, copy)
        weights = next(copy.glob("*.safetensors"))
        (copy / "SHA256SUMS").write_text(f"{64 * '0'}  {weights.name}\n{64 * '1'}  absent.safetensors\n")
        return {"model_path": str(copy)}
    if name == "modrevision":
        return {"model_revision": OTHER_REVISION}
    if name == "modhub":
        return {"model_path": None, "model_hub_id": "some/model"}
    return {"serve_prot": 9000, "gpu_cuont": 1, "serve_max_model_len": 0}


def test_a_wrong_model_stops_the_run_before_anything_changes(result: Result) -> None:
    assert result.status == 1
    assert result.host(GOOD)["status"] == "not run"
    assert f"nothing was changed on any host: {len(ODD)} of {len(ODD) + 1} refused" in result.printed


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("modmissing", "model-missing", ("modmissing: ", "this machine has no such directory", "set model_path")),
        ("modempty", "model-missing", ("modempty: ", "no *.safetensors files", "set model_path")),
        ("modsums", "model-checksum", ("absent.safetensors, model.safetensors", "SHA256SUMS", "download")),
        ("modrevision", "model-checksum", ("model_revision says 0123456789ab", "restore the model")),
        ("modhub", "settings", ("model_revision", "40")),
        ("modtypo", "settings", ("'serve_port'", "'gpu_count'", "serve_max_model_len")),
    ],
)
def test_a_model_that_is_not_the_wished_one_is_told_with_its_place(
    result: Result, name: str, code: str, words: tuple[str, ...]
) -> None:
    line = only_line(result, name)
    assert f"[{code}]" in line
    assert [word for word in words if word not in line] == []
