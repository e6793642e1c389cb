"""Who was left drained gets requests again once it passed the gate, and only then."""

from pathlib import Path
from typing import Any

import pytest

from rackhand.remote import admission, drain, gate, state


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the root of a host with one drained instance; its gate says what the question says."""
    monkeypatch.setattr(drain, "RUN", tmp_path / "run")
    monkeypatch.setattr(gate, "check", lambda asked, _: [dict(each) for each in asked])
    drain.say("tiny-0", drain.DRAIN)
    return tmp_path


def check(root: Path, failure: str = "", name: str = "tiny-0") -> tuple[bool, str]:
    asked: list[dict[str, Any]] = [{"name": name, "failure": failure}]
    return admission.check(str(root), asked, 1)[0]["readmitted"], drain.said(name)


def test_a_drained_server_that_passes_is_ready_again(root: Path) -> None:
    assert check(root) == (True, drain.READY)
    assert check(root) == (False, drain.READY)


def test_one_that_fails_stays_drained(root: Path) -> None:
    assert check(root, failure="gate-timeout") == (False, drain.DRAIN)


def test_one_that_was_never_drained_is_as_it_was(root: Path) -> None:
    assert check(root, name="tiny-1") == (False, drain.READY)


def test_while_an_order_is_open_its_program_alone_says_who_is_ready(root: Path) -> None:
    (root / state.ORDER).parent.mkdir(parents=True)
    (root / state.ORDER).write_text("{}")
    assert check(root) == (False, drain.DRAIN)
