"""When the gate gives up on an instance that is starting."""

import time
from typing import Any

import pytest

from rackhand.remote import gate, units

OLD, NEW = "a" * 32, "b" * 32
IDLE: dict[str, Any] = {"active": "active", "sub": "running", "invocation": OLD, "restarts": 0, "job": False}


@pytest.fixture(autouse=True)
def _silent_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "get", lambda *_: (0, ""))
    monkeypatch.setattr(units, "journal", lambda *_, **__: [])


def failed(monkeypatch: pytest.MonkeyPatch, asked_s_ago: float, **unit: Any) -> bool:
    """Tell whether a restart asked for some seconds ago counts as failed while systemd shows `unit`."""
    monkeypatch.setattr(units, "describe", lambda _: IDLE | unit)
    instance = {"name": "tiny-0", "before": OLD, "since": time.time() - asked_s_ago, "restarts": 0, "port": 8000}
    return bool(gate.wait([instance | {"host": "127.0.0.1", "key": ""}], 0)[0]["failed"])


def test_a_unit_between_the_stop_and_the_start_of_a_restart_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not failed(monkeypatch, 80, active="inactive", sub="dead", job=True)


def test_a_unit_that_stopped_and_has_no_job_before_it_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert failed(monkeypatch, 80, active="inactive", sub="dead")
    assert failed(monkeypatch, 1, active="failed", sub="failed", invocation=NEW)


def test_a_drain_is_waited_for_however_long_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not failed(monkeypatch, 80, active="deactivating", sub="stop-sigterm", job=True)


def test_systemd_may_take_a_moment_before_it_acts(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not failed(monkeypatch, 1, active="inactive", sub="dead")
