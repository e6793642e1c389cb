"""The unit that puts a driver back: it begins with nothing that it could not end."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from rackhand.remote import driver_apply, driver_back, driver_journal, driver_load, gpu, gpu_holders
from rackhand.remote.problem import Problem
from tests.drivers_back import NEW, OLD

LIMITS: Mapping[str, Any] = {
    "timeout_s": 60,
    "services": ["nvidia-persistenced"],
    "modules": ["nvidia"],
    "reboot": True,
}


class Board:
    """A host whose driver was changed; what has a GPU open, what is loaded, and what was put on."""

    def __init__(self, base: Path) -> None:
        self.base, self.loaded = base, driver_journal.version(NEW)
        self.holders: list[dict[str, Any]] = []
        self.put: list[str] = []
        path = base / driver_journal.CHANGE
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({"run": "r1", "from": OLD, "to": NEW, "direction": "forward", "phase": "done"}))

    def renew(self, **_: Any) -> dict[str, Any]:
        gpu_holders.refuse([])
        self.loaded = driver_journal.version(self.put[-1])
        return {"why": ""}


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Board:
    board = Board(tmp_path)
    monkeypatch.setattr(gpu_holders, "GLANCE_S", 0)
    monkeypatch.setattr(gpu_holders, "holders", lambda: board.holders)
    monkeypatch.setattr(gpu, "driver", lambda: {"loaded": board.loaded})
    monkeypatch.setattr(driver_apply, "put", lambda _base, name, *_: board.put.append(name))
    monkeypatch.setattr(driver_load, "renew", board.renew)
    return board


def test_the_set_from_before_is_put_on_and_loaded(board: Board) -> None:
    driver_back.undo(board.base, "r1", LIMITS)
    assert (board.put, board.loaded) == ([OLD], driver_journal.version(OLD))
    assert driver_journal.settled(driver_journal.change(board.base))


def test_while_somebody_keeps_the_module_loaded_no_package_of_its_driver_goes(board: Board) -> None:
    board.holders = [{"pid": 4711, "command": "train.py", "unit": "docker-0123456789ab.scope"}]
    with pytest.raises(Problem) as raised:
        driver_back.undo(board.base, "r1", LIMITS)
    assert raised.value.code == "gpu-held"
    assert board.put == [], "module and library still belong together"


def test_our_own_services_stop_by_themselves_and_do_not_count(board: Board) -> None:
    board.holders = [{"pid": 7, "command": "nvidia-persiste", "unit": "nvidia-persistenced.service"}]
    with pytest.raises(Problem):  # this board's persistence daemon does not stop
        driver_back.undo(board.base, "r1", LIMITS)
    assert board.put == [OLD]
