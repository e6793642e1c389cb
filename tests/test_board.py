"""The board: what is told of a rollout, as lines where nothing can be drawn again, and as a block on a terminal."""

from collections.abc import Callable, Sequence
from io import StringIO

import pytest
from rich.text import Text
from typing_extensions import override

from rackhand.progress import Progress
from rackhand.rollout import board_live
from rackhand.rollout.board import Board
from rackhand.rollout.board_block import ROWS, block
from rackhand.rollout.board_live import Above
from rackhand.rollout.board_state import BoardState
from rackhand.rollout.board_words import lasted
from rackhand.rollout.intent import Result
from rackhand.rollout.policy import Policy
from rackhand.terminal import Terminal
from tests.rollouts import Rollout, actors, rolled_back

GOOD = Result(good=True)
HOSTILE = "\x1b[2J\x1b[31mred\x1b[0m\r\nnext \x9b5A\x07bell"


class Paper(StringIO):
    """A file that takes all letters."""

    encoding = "utf-8"


class Screen(Paper):
    """A stream that says that it is a terminal."""

    @override
    def isatty(self) -> bool:
        return True


class Watched:
    """A board on a stream that is no terminal, and a clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0
        self.stream = Paper()
        self.board = Board(self.stream, 100.0, lambda: self.now)

    def begin(self, *waves: Sequence[str]) -> "Watched":
        self.board.planned(waves)
        self.board.wave(1)
        for host in waves[0]:
            self.board.began(host)
        return self

    @property
    def lines(self) -> list[str]:
        return self.stream.getvalue().splitlines()

    @property
    def words(self) -> list[str]:
        """The lines without their times."""
        return [line.partition("] ")[2] for line in self.lines]


@pytest.fixture
def watched() -> Watched:
    return Watched()


def in_turn(count: int) -> BoardState:
    """Return a state in which a wave of so many hosts is in its turn."""
    names = [f"gpu-{number}" for number in range(1, count + 1)]
    state = BoardState.planned([names]).wave(1)
    for name in names:
        state = state.began(name, 0.0)
    return state


def drawn(state: BoardState, width: int = 100, now: float = 10.0, height: int = 40) -> list[str]:
    """Draw a block of a width where there is room for a wider one."""
    return Terminal(width=400).drawn(block(state, now, now, width, height))


# What is told, folded


def test_a_phase_has_its_own_time_and_the_turn_another() -> None:
    state = in_turn(1).told("gpu-1", "drain", "llama-0", "", 3.0).told("gpu-1", "stop", "llama-0", "", 7.0)
    turn = state.turns["gpu-1"]
    assert (turn.began, turn.since, turn.phase, turn.instances) == (0.0, 7.0, "stop", ("llama-0",))


def test_instances_in_the_same_phase_are_together_and_keep_its_time() -> None:
    state = in_turn(1).told("gpu-1", "start", "a", "", 3.0).told("gpu-1", "start", "b", "", 4.0)
    assert state.turns["gpu-1"].instances == ("a", "b")
    assert state.turns["gpu-1"].since == 3.0


def test_the_same_words_again_and_words_of_others_are_no_news() -> None:
    state = in_turn(1).told("gpu-1", "start", "a", "", 3.0)
    assert state.told("gpu-1", "start", "a", "", 9.0) is state
    assert state.told("gpu-9", "start", "a", "", 9.0) is state
    assert state.told("gpu-1", "closed", "", "", 9.0) is state
    assert state.finished("gpu-9", "", 9.0) is state


def test_hosts_are_counted_as_through_failed_in_their_turn_and_waiting() -> None:
    state = BoardState.planned([["a"], ["b", "c"], ["d"]]).wave(1).began("a", 0).finished("a", "", 5).wave(2)
    state = state.began("b", 6).began("c", 6).finished("b", "rolled back", 9)
    assert (state.hosts, state.through, state.failed, len(state.turns), state.waiting) == (4, 1, 1, 1, 1)
    assert [(each.host, each.wave, each.seconds) for each in state.ended] == [("a", 1, 5), ("b", 2, 3)]


def test_a_soak_ends_with_the_next_wave_or_with_a_stop() -> None:
    state = in_turn(1).soaking(60, 10.0)
    assert state.soaks_until == 70.0
    assert state.wave(2).soaks_until is None
    assert state.halted("no").soaks_until is None


def test_what_a_wait_says_goes_with_its_phase_and_never_repeats_it() -> None:
    state = in_turn(1).told("gpu-1", "start", "a", "", 3.0)
    noted = state.noted("gpu-1", "a loading weights")
    assert noted.turns["gpu-1"].note == "a loading weights"
    assert state.noted("gpu-1", "start") is state
    assert noted.told("gpu-1", "answering", "a", "", 5.0).turns["gpu-1"].note == ""


# Lines


def test_every_change_is_a_line_with_the_time_since_the_run_began(watched: Watched) -> None:
    watched.now = 112.3
    watched.begin(["gpu-3", "gpu-4"], ["gpu-5"])
    watched.now = 112.5
    watched.board.phase("gpu-3", "drain", "llama-0")
    watched.now = 126.5
    watched.board.ended("gpu-3", GOOD)
    watched.now = 1312.0
    watched.board.soaking(1, 90)
    assert watched.lines == [
        "[ 12.3 s] wave 1 of 2: gpu-3, gpu-4",
        "[ 12.5 s] gpu-3 │ draining llama-0",
        "[ 26.5 s] gpu-3 │ through, 14.2 s",
        "[1212.0 s] soaking for 1:30 after wave 1",
    ]


def test_an_upgrade_of_one_instance_reads_as_what_happens(watched: Watched) -> None:
    watched.begin(["gpu-1"])
    for phase in ("armed", "drain", "drained", "stop", "stopped", "freed", "switched", "start", "answering", "gated"):
        watched.board.phase("gpu-1", phase, "" if phase in ("armed", "switched") else "llama-0")
    for phase, instance in (("serving", "llama-0"), ("accepted", ""), ("confirmed", ""), ("closed", "")):
        watched.board.phase("gpu-1", phase, instance)
    assert [line.removeprefix("gpu-1 │ ") for line in watched.words[1:]] == [
        "draining llama-0",
        "stopping llama-0",
        "starting llama-0",
        "asking llama-0 for five tokens",
        "llama-0 serving again",
    ]


def test_all_instances_that_left_together_serve_again(watched: Watched) -> None:
    board = watched.begin(["gpu-1"]).board
    for phase in ("drain", "stop", "start", "serving"):
        for instance in ("tiny-0", "tiny-1"):
            board.phase("gpu-1", phase, instance)
    assert watched.words[-2:] == ["gpu-1 │ tiny-0 serving again", "gpu-1 │ tiny-1 serving again"]


def test_an_instance_that_never_left_serves_but_not_again(watched: Watched) -> None:
    watched.begin(["gpu-1"]).board.phase("gpu-1", "serving", "llama-0")
    assert watched.words[-1] == "gpu-1 │ llama-0 serving"


def test_a_host_that_goes_back_says_why_and_where_to(watched: Watched) -> None:
    watched.begin(["gpu-1"], ["gpu-2", "gpu-3"])
    watched.board.phase("gpu-1", "failed", "llama-0", "gate-tokens: 3 tokens, not 5")
    watched.board.phase("gpu-1", "restoring", "", "91ab00")
    watched.board.phase("gpu-1", "start", "llama-0")
    watched.board.phase("gpu-1", "restored", "", "91ab00")
    watched.board.ended("gpu-1", rolled_back())
    watched.board.stopped("the canary failed: gpu-1 (rolled back)")
    assert watched.words[1:] == [
        "gpu-1 │ failed llama-0: gate-tokens: 3 tokens, not 5",
        "gpu-1 │ putting back release 91ab00",
        "gpu-1 │ going back: starting llama-0",
        "gpu-1 │ release 91ab00 serves again",
        "gpu-1 │ rolled back, 0.0 s",
        "stopped: the canary failed: gpu-1 (rolled back); 2 hosts will not begin",
    ]


@pytest.mark.parametrize(
    ("phase", "instance", "detail", "words"),
    [
        ("drained", "llama-0", "3 requests cut off after 30 s", "llama-0 drained, 3 requests cut off after 30 s"),
        ("restoring", "", "", "stopping what was begun"),
        ("stopped", "", "", "stopped, serves nothing"),
        ("unchanged", "", "91ab00", "release 91ab00 left as it was"),
        ("driver", "", "", "installing the driver"),
        ("reboot", "", "", "rebooting"),
        ("held", "", "", "stopped for the driver"),
        ("render", "", "", "rendering its release"),
        ("{odd}", "llama-0", "how", "{odd} llama-0, how"),
    ],
)
def test_phases_are_words_for_people(watched: Watched, phase: str, instance: str, detail: str, words: str) -> None:
    watched.begin(["gpu-1"]).board.phase("gpu-1", phase, instance, detail)
    assert watched.words[-1].removeprefix("gpu-1 │ ").removeprefix("going back: ") == words


def test_a_line_is_never_said_twice(watched: Watched) -> None:
    watched.begin(["gpu-1"])
    for _ in range(5):
        watched.now += 1
        watched.board.phase("gpu-1", "start", "llama-0")
    assert watched.words == ["wave 1 of 1: gpu-1", "gpu-1 │ starting llama-0"]


def test_a_wave_of_many_names_some_and_counts_the_others(watched: Watched) -> None:
    watched.begin([f"h{number}" for number in range(150)])
    assert watched.words == ["wave 1 of 1: h0, h1, h2, h3, h4, h5, h6, h7 and 142 more"]


def test_two_hundred_hosts_say_one_line_for_each_change_and_none_twice() -> None:
    run = Rollout(
        actors(200, h77=rolled_back()), Policy(waves=(1, "25%"), min_replicas=0, max_failures=1), stream=Paper()
    ).run()
    lines = [line.partition("] ")[2] for line in run.stream.getvalue().splitlines()]
    assert len(lines) == len(set(lines)) == 200 + len(run.planned)
    assert sum(" │ through, " in line for line in lines) == 199
    assert sum("h77 │ rolled back, " in line for line in lines) == 1


def test_nothing_is_said_before_the_plan_without_waves_and_after_the_end(watched: Watched) -> None:
    watched.board.phase("gpu-1", "driver")
    watched.board.planned([])
    watched.board.stopped("nobody")
    assert watched.lines == []
    watched.begin(["gpu-1"])
    watched.board.close()
    watched.board.close()
    watched.board.ended("gpu-1", GOOD)
    assert watched.words == ["wave 1 of 1: gpu-1"]


def test_what_hosts_say_cannot_move_the_cursor(watched: Watched) -> None:
    watched.begin(["gpu-1"])
    watched.board.phase("gpu-1", HOSTILE, HOSTILE, HOSTILE)
    watched.board.phase("gpu-1", "failed", HOSTILE, HOSTILE)
    watched.board.stopped(HOSTILE)
    assert len(watched.lines) == 4
    assert not set(watched.stream.getvalue()) & set("\x1b\r\x07\x9b")


def test_a_stream_that_breaks_disturbs_nobody() -> None:
    class Broken(StringIO):
        @override
        def write(self, text: str) -> int:
            raise OSError(5, "Input/output error")

    board = Board(Broken(), 0.0, lambda: 0.0)
    board.planned([["gpu-1"]])
    board.wave(1)
    board.began("gpu-1")
    board.phase("gpu-1", "drain", "llama-0")
    board.ended("gpu-1", GOOD)
    board.wave(7)
    board.close()
    assert board.state.through == 1


# The block


def crowded() -> BoardState:
    """Return a state with everything at once: many hosts, failures, long and wide names, a soak and a stop."""
    names = [
        *(f"gpu-{number}" for number in range(1, 30)),
        "a-host-with-a-very-long-name.of.a.domain.example.org",
        "漢字",
    ]
    state = BoardState.planned([["canary", *names], ["later"]]).wave(1)
    for name in ("canary", *names):
        state = state.began(name, 0.0)
    for place, name in enumerate(names[:20]):
        state = state.finished(name, "rolled back" if place % 3 else "", 8.0)
    for name in names[20:]:
        state = state.told(name, "answering", "llama-3-70b-instruct-0", "4.2 s after its start", 4.0)
    state = state.told("canary", "failed", "llama-0", "gate-tokens: " + "only three tokens came, not five; " * 9, 5.0)
    return state.soaking(100, 10.0).noted("gpu-22", "漢" * 80).halted("x" * 300)


@pytest.mark.parametrize("width", [24, 60, 80, 120])
def test_the_block_is_never_wider_than_the_terminal(width: int) -> None:
    state = crowded()
    for each in (state, in_turn(1), in_turn(200), BoardState.planned([["a"]]).wave(1)):
        lines = drawn(each, width)
        assert max(Text(line).cell_len for line in lines) <= width
    assert "host" in "".join(drawn(state, width))


def test_a_row_tells_host_phase_instance_and_both_times() -> None:
    state = in_turn(2).told("gpu-1", "drain", "llama-0", "", 6.0).told("gpu-2", "start", "llama-1", "", 9.0)
    state = state.noted("gpu-2", "llama-1 loading weights")
    rows = [line.split() for line in drawn(state, now=75.0)]
    assert ["gpu-1", "draining", "llama-0", "1:09", "1:15"] in rows
    assert ["gpu-2", "starting", "llama-1", "loading", "weights", "1:06", "1:15"] in rows


def test_the_head_counts_and_grows_short_on_a_narrow_terminal() -> None:
    state = BoardState.planned([["a"], ["b", "c", "d"], ["e"] * 196]).wave(2).began("a", 0).finished("a", "", 1)
    state = state.began("b", 0).began("c", 0).began("d", 0).finished("d", "lost", 2)
    head = "wave 2 of 3 · 1 of 200 hosts through · 2 in their turn · 1 failed · 4:10 elapsed"
    assert head in drawn(state, 80, now=250.0)
    assert "wave 2/3 · 1/200 through · 2 in turn · 1 failed · 4:10" in drawn(state, 60, now=250.0)


def test_of_many_hosts_ten_have_rows_and_the_others_are_counted_by_phase() -> None:
    state = in_turn(17)
    for number in range(1, 18):
        state = state.told(f"gpu-{number}", "start" if number < 16 else "drain", "llama-0", "", 1.0)
    lines = drawn(state)
    assert sum(line.startswith("gpu-") for line in lines) == ROWS
    assert "and 7 more: 5 starting, 2 draining" in lines


def test_two_hundred_hosts_fit_on_any_screen() -> None:
    state = in_turn(200)
    for number in range(50):
        state = state.finished(f"gpu-{number + 1}", "lost" if number % 2 else "", 5.0)
    for height in (12, 24, 60):
        assert len(drawn(state.halted("too much"), 80, height=height)) <= height


def test_whoever_goes_back_is_shown_first() -> None:
    state = in_turn(17).told("gpu-17", "failed", "llama-0", "engine-died: no more", 2.0)
    row = next(line for line in drawn(state) if line.startswith("gpu-"))
    assert row.split()[:3] == ["gpu-17", "failed", "llama-0:"]


def test_those_that_are_through_are_named_for_this_wave_and_those_that_failed_for_all() -> None:
    state = BoardState.planned([["a", "b"], ["c"]]).wave(1).began("a", 0).began("b", 0)
    state = state.finished("a", "", 14).finished("b", "rolled back", 70).wave(2).began("c", 0).finished("c", "", 3)
    assert drawn(state)[-2:] == ["through: c (3 s)", "failed: b (rolled back, 1:10)"]


def test_a_soak_counts_down_and_a_stop_is_red() -> None:
    state = in_turn(1).finished("gpu-1", "", 5.0).soaking(200, 10.0)
    assert "soaking after wave 1: 3:20 left" in drawn(state, now=10.0)
    assert "soaking after wave 1: 1 s left" in drawn(state, now=209.5)
    stop = Terminal(width=100, colour=True).drawn(block(state.halted("the canary failed"), 10.0, 10.0, 100))[-1]
    assert "\x1b[1;31mstopped: the canary failed" in stop


def test_the_block_shows_no_escapes_of_hosts() -> None:
    state = in_turn(2).told("gpu-1", "start", HOSTILE, HOSTILE, 1.0).told("gpu-2", HOSTILE, "", HOSTILE, 1.0)
    for each in (state, state.noted("gpu-1", HOSTILE), state.halted(HOSTILE), state.finished("gpu-2", HOSTILE, 2.0)):
        assert not set("".join(drawn(each))) & set("\x1b\r\x07\x9b")


@pytest.mark.parametrize(
    ("seconds", "words"), [(-1, "0 s"), (9.9, "9 s"), (60, "1:00"), (250, "4:10"), (3600, "1:00:00"), (3723, "1:02:03")]
)
def test_durations_are_short(seconds: float, words: str) -> None:
    assert lasted(seconds) == words


# Other writers


def shown_above() -> tuple[Above, list[str]]:
    said: list[str] = []
    return Above(StringIO(), said.extend), said


def test_whole_lines_of_others_appear_and_a_spinner_does_not() -> None:
    above, said = shown_above()
    for text in ("one\ntw", "    - 50% {gpu-1}\r", "\x1b[K", "    / 50%\r\x1b[K", "o\n", "three\r\n", "ha", "lf"):
        above.write(text)
    assert said == ["one", "two", "three"]
    above.release()
    assert said[-1] == "half"


def test_what_a_spinner_leaves_is_not_passed_on() -> None:
    above, said = shown_above()
    above.write("    - 50%\r\x1b[K")
    above.release()
    assert said == []


def test_a_line_that_cannot_be_shown_above_is_not_lost() -> None:
    def fail(lines: Sequence[str]) -> None:
        raise ValueError("no")

    stream = StringIO()
    Above(stream, fail).write("an error of somebody\n")
    assert stream.getvalue() == "an error of somebody\n"


@pytest.mark.parametrize("term", ["dumb", "", "unknown"])
def test_a_dumb_terminal_gets_lines(term: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    assert board_live.possible(Screen())
    monkeypatch.setenv("TERM", term)
    assert not board_live.possible(Screen())


def test_a_terminal_without_our_letters_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    screen = Screen()
    screen.encoding = "ascii"
    assert not board_live.possible(screen)


def test_a_block_that_cannot_be_drawn_gives_way_to_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: object) -> None:
        raise RuntimeError("no")

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(board_live.Block, "refresh", fail)
    screen = Screen()
    board = Board(screen, 0.0, lambda: 0.0)
    board.planned([["gpu-1"]])
    board.wave(1)
    assert screen.getvalue().endswith("[  0.0 s] wave 1 of 1: gpu-1\n")


def test_a_wait_that_the_block_shows_says_no_line_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    board = Board(Screen(), 0.0, lambda: 0.0)
    assert waits(board.takes) == ["gpu-1", "gpu-2"]
    board.planned([["gpu-1"]])
    board.began("gpu-1")
    try:
        assert waits(board.takes) == ["gpu-2"]
        assert board.state.turns["gpu-1"].note == "loading weights"
    finally:
        board.close()
    assert waits(board.takes) == ["gpu-1", "gpu-2"]


def waits(takes: Callable[[str, str], bool]) -> list[str]:
    """Return which of two hosts a wait of each writes a line for."""
    said: list[str] = []
    progress = Progress(write=said.append, takes=takes, every_s=0.001)
    with (
        progress.waiting("gpu-1", "release", 60, lambda: "loading weights"),
        progress.waiting("gpu-2", "release", 60, lambda: "loading weights"),
    ):
        progress.sleep(0.05)
    return sorted({line.partition(" ")[0] for line in said})
