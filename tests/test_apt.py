"""Apt's programs are called so that another one that runs meanwhile is waited for."""

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from rackhand.remote import apt, command
from rackhand.remote.problem import Problem

TAKEN = [
    "dpkg: error: dpkg frontend lock was locked by another process with pid 4242",
    "E: Executing dpkg failed. Are you root?",
]
BROKEN = ["E: Unable to locate package libcuda1"]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Sequence[str]]:
    monkeypatch.setattr(apt, "POLL_S", 0)
    monkeypatch.setattr(apt.host, "apt_lock_holder", lambda: None)
    return []


def answering(calls: list[Sequence[str]], answers: Iterator[tuple[int, list[str]]]) -> Any:
    def run(arguments: Sequence[str], *_: object) -> tuple[int, list[str]]:
        calls.append(arguments)
        return next(answers)

    return run


def test_a_lock_that_is_taken_between_the_look_and_the_mark_is_waited_for(
    calls: list[Sequence[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "run", answering(calls, iter([(100, TAKEN), (100, TAKEN), (0, [])])))
    apt.mark("hold", ["libcuda1"], "driver-install", 60)
    assert calls == [["apt-mark", "hold", "libcuda1"]] * 3


def test_a_lock_that_stays_taken_is_told_with_its_process(
    calls: list[Sequence[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(0, 1000, 30))
    monkeypatch.setattr(apt.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(command, "run", answering(calls, iter([(100, TAKEN)] * 20)))
    with pytest.raises(Problem, match="process 4242 took dpkg's lock") as caught:
        apt.mark("hold", ["libcuda1"], "driver-install", 60)
    assert caught.value.code == "apt-locked"


def test_another_failure_of_a_mark_is_told_at_once(calls: list[Sequence[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "run", answering(calls, iter([(100, BROKEN)])))
    with pytest.raises(Problem) as caught:
        apt.mark("hold", ["libcuda1"], "driver-install", 60)
    assert caught.value.code == "package-missing"
    assert len(calls) == 1
