"""`rackhand verify` over real SSH: a board that is well, what may ail it, and that looking changes nothing."""

import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from rackhand.lab import personality
from rackhand.lab.connector import CHECKOUT
from rackhand.lab.fleet import Fleet
from rackhand.lab.personality import Ailments
from tests.lab.ailing import recovers, says, turns_into
from tests.lab.asking import verified
from tests.lab.driver_state import NEW, OLD
from tests.lab.evidence import files, touched
from tests.lab.serving import Rack

pytestmark = pytest.mark.lab

NAME, MACHINE = "board", "8xH100-nvswitch"
WELL = personality.load(MACHINE)
THIRD = WELL.gpus[2].address
WISHES = {"serve_instances": 1, "gpu_count": 8, "gpu_model": "H100", "serve_shutdown_timeout_s": 1}


@pytest.fixture(scope="module")
def deployed(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rack]:
    rack = Rack.of(fleet, tmp_path_factory.mktemp("verify"), NAME, MACHINE)
    rack.serves(**WISHES)
    yield rack
    fleet.remove(NAME)


@pytest.fixture
def board(deployed: Rack) -> Iterator[Rack]:
    """Yield the board when it is well, and make it well again."""
    yield deployed
    recovers(deployed.host, WELL)


def test_a_board_that_is_well_is_healthy_and_left_as_it_was(board: Rack) -> None:
    before = files(board.host)
    found = verified(board.world)
    assert (found.status, found.found["good"], found.found["verdict"]) == (0, True, "1 host: 1 healthy.")
    host = found.host(NAME)
    assert (host["status"], host["findings"], host["cuda"]["devices"]) == ("healthy", [], 8)
    assert (host["driver"]["module"], host["driver"]["library"], host["driver"]["nvml"]) == (NEW, NEW, "ok")
    assert [gpu["fabric"]["state"] for gpu in host["gpus"]] == [3] * 8
    assert touched(before, files(board.host)) == []


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"ails": Ailments(remap_pending=True)}, "row-remap-pending"),
        ({"ails": Ailments(ecc_uncorrected=3)}, "ecc-uncorrected"),
        ({"ails": Ailments(recovery=1)}, "recovery-action"),
        ({"in_nvml": False}, "gpu-not-in-nvml"),
        ({"lost": True}, "gpu-lost"),
    ],
)
def test_the_card_that_ails_is_named_and_blocks(board: Rack, changes: dict[str, Any], code: str) -> None:
    turns_into(board.host, WELL.with_gpu(2, **changes))
    found = verified(board.world)
    assert (found.status, found.host(NAME)["status"]) == (2, "unhealthy")
    assert found.found_on(NAME)[code, THIRD]
    assert {gpu for _, gpu in found.found_on(NAME)} <= {THIRD, ""}, "the other seven are well"


def test_a_card_that_fell_off_the_bus_is_missed(board: Rack) -> None:
    turns_into(board.host, WELL.with_gpu(2, on_bus=False))
    found = verified(board.world)
    assert found.status == 2
    assert found.found_on(NAME)["gpu-count", ""]
    (missed,) = (each["what"] for each in found.host(NAME)["findings"] if each["code"] == "gpu-count")
    assert "7" in missed
    assert "8 promised" in missed


def test_what_slows_a_card_is_a_warning_and_no_reason_to_stop(board: Rack) -> None:
    turns_into(board.host, WELL.with_gpu(2, ails=Ailments(clock_events=0x80)))
    found = verified(board.world)
    assert (found.status, found.host(NAME)["status"]) == (0, "degraded")
    assert found.found_on(NAME) == {("power-brake", THIRD): False}


def test_an_xid_since_the_boot_is_quoted_with_its_card(board: Rack) -> None:
    xid = f"NVRM: Xid (PCI:{THIRD[:-2]}): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus."
    says(board.host, "NVRM: Xid (PCI:0000:1b:00): 48, an old one", "NVRM: loading NVIDIA UNIX Open Kernel Module", xid)
    found = verified(board.world)
    assert (found.status, found.found_on(NAME)) == (2, {("xid-79", THIRD): True})
    assert xid in found.host(NAME)["findings"][0]["evidence"][0]


def test_a_fabric_manager_of_another_version_is_found_and_a_deploy_cures_it(board: Rack) -> None:
    other = f"nvidia-fabricmanager={OLD}-1"
    said = board.does(
        f"DEBIAN_FRONTEND=noninteractive apt-get install -y --allow-downgrades --allow-change-held-packages {other}"
        " && systemctl restart nvidia-fabricmanager"
    )
    found = verified(board.world)
    codes = {code for code, _ in found.found_on(NAME)}
    assert found.status == 2, said
    assert {"cuda-not-ready", "fabricmanager-mismatch", "fabricmanager-down", "fabric-incomplete"} <= codes
    assert found.host(NAME)["cuda"]["code"] == 802
    board.serves(**WISHES)
    assert verified(board.world).status == 0


def test_a_fabric_manager_that_is_gone_is_found_and_a_deploy_cures_it(board: Rack) -> None:
    remove = "apt-get remove -y --allow-change-held-packages nvidia-fabricmanager"
    said = board.does(
        f"systemctl stop nvidia-fabricmanager; DEBIAN_FRONTEND=noninteractive {remove}; systemctl daemon-reload"
    )
    found = verified(board.world)
    assert found.status == 2, said
    assert {"cuda-not-ready", "fabricmanager-missing"} <= {code for code, _ in found.found_on(NAME)}
    board.serves(**WISHES)
    assert verified(board.world).status == 0


def test_a_run_of_pyinfra_says_the_same_and_fails(board: Rack) -> None:
    turns_into(board.host, WELL.with_gpu(2, ails=Ailments(remap_pending=True)))
    done = subprocess.run(
        board.world.command("-y", program="verify.py"), cwd=CHECKOUT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert f"error: @lab/{NAME} GPU {THIRD}: a remapped row waits for a reset" in done.stdout
    assert f"not fit to serve, or not to be asked: @lab/{NAME}" in done.stdout + done.stderr


def test_a_host_that_is_off_cannot_be_asked(board: Rack) -> None:
    board.host.power_cut()
    try:
        found = verified(board.world)
        assert (found.status, found.host(NAME)["status"]) == (1, "unreachable")
    finally:
        board.host.power_on()
        board.host.wait_ssh()
