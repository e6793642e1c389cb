"""Cards that are cut by MIG and ECC that waits for a boot, on practice hosts whose other cards serve."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rackhand.lab import emulation, personality
from rackhand.lab.fleet import Fleet
from rackhand.lab.host import LabHost
from rackhand.lab.personality import Ailments
from tests.lab.deploying import Result, World

pytestmark = pytest.mark.lab

CUT, CARD = "cut", "ecc"
CARDS = "4xA100-nvlink-pairs"
HOSTS = {CUT: {"lab_personality": CARDS}, CARD: {"lab_personality": "1xL4"}}
STEP = "GPUs | persistence, fabric, nodes"
# The last card is one that only a boot resets, as in a virtual machine.
THIRD, LAST = (personality.load(CARDS).gpus[slot].address for slot in (2, 3))
SLICES = {THIRD: ["2g.20gb", "3g.40gb"], LAST: ["7g.80gb"]}
WISHES: dict[str, Any] = {"serve_instances": 1, "rollout_waves": [2]}


@pytest.fixture(scope="module")
def world(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(fleet=fleet, directory=tmp_path_factory.mktemp("modes"))


@pytest.fixture(scope="module")
def installed(world: World) -> Iterator[Result]:
    yield world.deploy(HOSTS, **WISHES)
    for name in HOSTS:
        world.fleet.remove(name)


@pytest.fixture
def cut(world: World, installed: Result) -> LabHost:
    assert installed.status == 0, installed.printed
    host = world.fleet.host(CUT)
    rigid = personality.load(CARDS).with_gpu(3, ails=Ailments(no_reset=True))
    emulation.rewrite(Path(f"/proc/{host.pid}/root"), rigid)
    return host


@pytest.fixture
def card(world: World, installed: Result) -> LabHost:
    assert installed.status == 0, installed.printed
    return world.fleet.host(CARD)


def deployed(world: World, name: str, **more: Any) -> Result:
    result = world.deploy({name: HOSTS[name]}, **{**WISHES, **more})
    assert result.status == 0, result.printed
    assert result.host(name)["instances"][0]["gate"] == "passed"
    return result


def asked(host: LabHost, *queries: str) -> list[str]:
    done = host.run(["nvidia-smi", f"--query-gpu={','.join(queries)}", "--format=csv,noheader,nounits"])
    return done.stdout.splitlines()


def slices(host: LabHost) -> list[str]:
    """Return the profiles of all slices, card by card."""
    lines = host.run(["nvidia-smi", "-L"]).stdout.splitlines()
    return [line.split()[1] for line in lines if line.startswith("  MIG")]


def boots(host: LabHost) -> str:
    return host.run(["cat", "/proc/sys/kernel/random/boot_id"]).stdout


def test_ecc_that_may_not_reboot_is_set_told_and_left_waiting(world: World, card: LabHost) -> None:
    told = deployed(world, CARD, gpu_ecc=False, driver_reboot_allowed=False)
    assert asked(card, "ecc.mode.current", "ecc.mode.pending") == ["Enabled, Disabled"]
    (warning,) = told.host(CARD)["warnings"]
    assert warning["code"] == "gpu-pending"
    assert "ECC off" in warning["what"]


def test_ecc_that_waits_takes_its_boot_in_the_next_run_and_only_there(world: World, card: LabHost) -> None:
    before = boots(card)
    result = deployed(world, CARD, gpu_ecc=False)
    assert STEP in result.changed(CARD)
    assert asked(card, "ecc.mode.current", "ecc.mode.pending") == ["Disabled, Disabled"]
    after = boots(card)
    assert after != before
    assert deployed(world, CARD, gpu_ecc=False).changed(CARD) == []
    assert boots(card) == after


def test_cards_are_cut_beside_one_that_serves_at_once_or_at_the_boot_that_they_take(world: World, cut: LabHost) -> None:
    before = boots(cut)
    deployed(world, CUT, gpu_mig=SLICES)
    assert asked(cut, "mig.mode.current") == ["Disabled", "Disabled", "Enabled", "Enabled"]
    assert slices(cut) == ["3g.40gb", "2g.20gb", "7g.80gb"]
    assert boots(cut) != before
    assert deployed(world, CUT, gpu_mig=SLICES).changed(CUT) == []


def test_slices_are_there_again_after_a_boot(cut: LabHost) -> None:
    cut.reboot()
    cut.run(["systemctl", "start", "multi-user.target"])
    assert slices(cut) == ["3g.40gb", "2g.20gb", "7g.80gb"]


def test_profiles_that_a_card_has_not_got_are_refused_before_anything_changes(world: World, cut: LabHost) -> None:
    result = world.deploy({CUT: HOSTS[CUT]}, **{**WISHES, "gpu_mig": {THIRD: ["3g.71gb"]}})
    assert result.host(CUT)["status"] == "refused"
    assert result.problem(CUT)["code"] == "gpu-mig"
    assert slices(cut) == ["3g.40gb", "2g.20gb", "7g.80gb"]


def test_cards_become_whole_again(world: World, cut: LabHost) -> None:
    deployed(world, CUT, gpu_mig="off")
    assert asked(cut, "mig.mode.current", "mig.mode.pending") == ["Disabled, Disabled"] * 4
    assert slices(cut) == []
    assert deployed(world, CUT, gpu_mig="off").changed(CUT) == []
