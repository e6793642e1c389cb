"""An instance that was not accepted is explained in words that help: the root cause first, then what to do."""

from typing import Any

import pytest

from rackhand import rejection
from rackhand.rejection import NEXT_STEPS

HOPELESS = "(EngineCore pid=7) ERROR 11-23 22:51:00 [core.py:1] ValueError: No available memory for the cache blocks."
UNKNOWN = "(EngineCore pid=7) ERROR 11-23 22:51:00 [core.py:1] ZeroDivisionError: division by zero"
LOADING = "(EngineCore pid=7) INFO 11-23 22:51:00 [model.py:1] Starting to load model /opt/rackhand/models/tiny..."


def seen(*journal: str, **item: Any) -> dict[str, Any]:
    unit = {"active": "activating", "ended": "exit status 1", "result": "exit-code", **item.pop("unit", {})}
    return {"name": "tiny-0", "unit": unit, "journal": list(journal), **item}


def test_an_engine_that_ended_is_named_by_its_root_cause() -> None:
    error = rejection.died("rack1", seen(LOADING, HOPELESS))
    assert error.code == "no-cache-memory"
    assert error.where == "rack1 vllm@tiny-0"
    assert error.what.startswith("the engine ended while it started (exit status 1): The weights")
    assert error.next_step.startswith("Give the model more GPUs")
    assert error.evidence == ("ValueError: No available memory for the cache blocks.",)


def test_an_engine_that_ended_for_an_unknown_reason_shows_its_last_exception() -> None:
    error = rejection.died("rack1", seen(LOADING, UNKNOWN))
    assert error.code == "engine-died"
    assert error.evidence == ("ZeroDivisionError: division by zero",)
    assert error.next_step == "read its journal on the host: journalctl -u vllm@tiny-0 -n 100"


def test_an_engine_that_ended_without_a_word_shows_its_last_lines() -> None:
    error = rejection.died("rack1", seen(LOADING, "", unit={"ended": "signal 9"}))
    assert (error.code, error.what) == ("engine-died", "the engine ended while it started (signal 9)")
    assert "journalctl -u vllm@tiny-0" in error.next_step
    assert error.evidence == (LOADING,)


def test_only_a_fatal_line_ends_the_wait_for_a_process_that_lives() -> None:
    assert rejection.hopeless("rack1", seen(LOADING, UNKNOWN)) is None
    error = rejection.hopeless("rack1", seen(LOADING, HOPELESS))
    assert error is not None
    assert error.code == "no-cache-memory"
    assert error.what.startswith("the engine cannot start: ")


def test_a_start_that_takes_too_long_names_its_phase() -> None:
    assert "within 600 s, last seen loading weights" in rejection.late("rack1", seen(LOADING), 600).what
    assert "last seen before its first line" in rejection.late("rack1", seen(), 600).what


@pytest.mark.parametrize("code", sorted(set(NEXT_STEPS) - {"gate-timeout"}))
def test_a_wrong_answer_is_not_explained_by_the_journal(code: str) -> None:
    error = rejection.rejected("rack1", seen(HOPELESS, failure=code, what="wrong"), 8003)
    assert (error.code, error.what, error.evidence) == (code, "wrong", ())
    assert "{" not in error.next_step


def test_the_port_is_named_where_something_else_may_answer() -> None:
    error = rejection.rejected("rack1", seen(failure="gate-model", what="wrong"), 8003)
    assert "ss -ltnp 'sport = :8003' on the host" in error.next_step


@pytest.mark.parametrize(
    ("unit", "words"),
    [
        ({"active": "active", "ended": ""}, "the engine is dead though its process lives: /health"),
        ({"active": "activating", "ended": "exit status 0"}, "the engine ended at the gate (exit status 0): /health"),
    ],
)
def test_a_dead_engine_is_told_from_a_dead_process(unit: dict[str, str], words: str) -> None:
    error = rejection.rejected("rack1", seen(LOADING, unit=unit, failure="engine-died", what="/health answered 503"), 1)
    assert error.code == "engine-died"
    assert error.what == f"{words} answered 503"


def test_a_root_cause_replaces_the_symptom_of_a_dead_engine() -> None:
    item = seen(HOPELESS, failure="engine-died", what="/v1/completions answered 500: See stack trace (above).")
    error = rejection.rejected("rack1", item, 8000)
    assert error.code == "no-cache-memory"
    assert error.what.startswith("the engine ended at the gate (exit status 1): The weights")
    assert "500" not in error.what
