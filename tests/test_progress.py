"""A long step talks every ten seconds, falls silent when it ends, and is never disturbed by what it says."""

import contextlib
from collections.abc import Iterator

import gevent  # type: ignore[import-untyped]
import pytest

from rackhand.progress import CROWD, Progress, line


class Clock:
    """Time that passes only when a ticker sleeps; every sleep gives the others one turn."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        gevent.sleep(0)
        self.now += seconds


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def progress(said: list[str]) -> Iterator[Progress]:
    clock = Clock()
    progress = Progress(write=said.append, clock=clock, sleep=clock.sleep)
    yield progress
    assert progress._waits == []


def turns(count: int) -> None:
    """Let the tickers run for this many turns; the first only starts them."""
    for _ in range(count):
        gevent.sleep(0)


def test_a_line_names_host_step_time_deadline_and_what_is_happening() -> None:
    text = line("rack1", "vLLM environment", 40.4, 3600, "Downloading torch (182 MiB)")
    assert text == "rack1 │ vLLM environment: 40 s of at most 3600 s — Downloading torch (182 MiB)"
    assert line("rack1", "reboot", 10, 1800) == "rack1 │ reboot: 10 s of at most 1800 s"


def test_a_quick_step_says_nothing(progress: Progress, said: list[str]) -> None:
    with progress.waiting("rack1", "reboot", 1800, lambda: "booting"):
        turns(1)
    turns(5)
    assert said == []


def test_a_long_step_says_one_line_every_ten_seconds(progress: Progress, said: list[str]) -> None:
    details = iter(["Downloading torch", "Installing torch", None])
    with progress.waiting("rack1", "environment", 3600, lambda: next(details)):
        turns(4)
    assert said == [
        "rack1 │ environment: 10 s of at most 3600 s — Downloading torch",
        "rack1 │ environment: 20 s of at most 3600 s — Installing torch",
        "rack1 │ environment: 30 s of at most 3600 s",
    ]


def test_it_falls_silent_when_the_step_ends(progress: Progress, said: list[str]) -> None:
    with progress.waiting("rack1", "environment", 3600):
        turns(2)
    before = list(said)
    turns(5)
    assert said == before
    assert before


def test_it_falls_silent_when_the_step_fails_and_the_error_goes_on(progress: Progress, said: list[str]) -> None:
    def unplug() -> None:
        with progress.waiting("rack1", "environment", 3600):
            turns(2)
            raise OSError("unplugged")

    with pytest.raises(OSError, match="unplugged"):
        unplug()
    before = list(said)
    turns(5)
    assert said == before


def test_a_failing_detail_is_left_out(progress: Progress, said: list[str]) -> None:
    def broken() -> str:
        raise RuntimeError("connection lost")

    with progress.waiting("rack1", "environment", 3600, broken):
        turns(3)
    assert said == [
        "rack1 │ environment: 10 s of at most 3600 s",
        "rack1 │ environment: 20 s of at most 3600 s",
    ]


def test_a_failing_output_does_not_disturb_the_step() -> None:
    clock = Clock()

    def closed(text: str) -> None:
        raise BrokenPipeError

    with Progress(write=closed, clock=clock, sleep=clock.sleep).waiting("rack1", "environment", 3600):
        turns(4)
    assert clock.now >= 1030


def test_a_detail_that_outlives_the_step_ends_in_peace_and_is_not_printed(progress: Progress, said: list[str]) -> None:
    ended = []

    def slow() -> str:
        turns(3)
        ended.append("in peace")
        return "too late"

    with progress.waiting("rack1", "environment", 3600, slow):
        turns(3)
    turns(5)
    assert said == []
    assert ended == ["in peace"]


def test_only_the_last_state_of_a_drawn_progress_bar_is_shown(progress: Progress, said: list[str]) -> None:
    drawn = "Resolved 140\n\x1b[2K\x1b[36mtorch\x1b[0m 10 %\rtorch 90 %\r\n\n"
    with progress.waiting("rack1", "environment", 3600, lambda: drawn):
        turns(2)
    assert said == ["rack1 │ environment: 10 s of at most 3600 s — torch 90 %"]


def test_a_crowd_is_counted_instead_of_listed(said: list[str]) -> None:
    progress = Progress(write=said.append, clock=lambda: 0.0, sleep=lambda _: gevent.sleep(0))

    with contextlib.ExitStack() as steps:
        for number in range(1, CROWD + 4):
            steps.enter_context(progress.waiting(f"rack{number}", "reboot", 1800))
        turns(2)
    assert len(said) == CROWD
    assert said[0].startswith("rack1 │ reboot")
    assert said[-1].endswith("(and 3 more waiting)")
