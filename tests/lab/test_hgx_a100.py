"""Eight A100 behind NVSwitches: only the fabric manager makes their fabric, and no card says that it joined it."""

from collections.abc import Iterator

import pytest

from rackhand.lab.fleet import Fleet
from tests.lab.asking import verified
from tests.lab.driver_state import NEW, versions
from tests.lab.serving import Rack

pytestmark = pytest.mark.lab

NAME, MACHINE = "ampere", "8xA100-nvswitch"
WISHES = {"serve_instances": 1, "gpu_count": 8, "gpu_model": "A100", "serve_shutdown_timeout_s": 1}


@pytest.fixture(scope="module")
def board(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rack]:
    rack = Rack.of(fleet, tmp_path_factory.mktemp("ampere"), NAME, MACHINE)
    rack.serves(**WISHES)
    yield rack
    fleet.remove(NAME)


def test_a_bare_board_comes_to_serve_and_is_healthy(board: Rack) -> None:
    assert versions(board.host)["nvidia-fabricmanager"] == NEW
    found = verified(board.world)
    host = found.host(NAME)
    assert (found.status, host["status"], host["findings"], host["cuda"]["devices"]) == (0, "healthy", [], 8)
    assert {gpu["fabric"] and gpu["fabric"]["state"] for gpu in host["gpus"]} <= {0, None}


def test_a_deploy_of_the_same_changes_nothing_there(board: Rack) -> None:
    result = board.deploy(**WISHES)
    assert (result.status, result.host(NAME)["status"]) == (0, "unchanged"), result.printed


def test_without_its_manager_the_board_is_not_fit_and_a_deploy_brings_it_back(board: Rack) -> None:
    board.does("systemctl disable --now nvidia-fabricmanager")
    found = verified(board.world)
    codes = {code for code, _ in found.found_on(NAME)}
    assert (found.status, found.host(NAME)["cuda"]["code"]) == (2, 802)
    assert {"cuda-not-ready", "fabricmanager-down"} <= codes
    assert "fabric-incomplete" not in codes
    board.serves(**WISHES)
    assert verified(board.world).status == 0
