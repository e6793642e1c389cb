"""What people see while hosts have their turns: a live block on a terminal, one line per change elsewhere."""

import contextlib
from collections.abc import Callable, Sequence
from typing import TextIO

from rich.console import Group

from rackhand.rollout import board_live, board_words
from rackhand.rollout.board_block import block
from rackhand.rollout.board_state import BoardState
from rackhand.rollout.intent import Result
from rackhand.terminal import Terminal, write


class Board:
    """Shows a rollout on a stream (stderr); made before the turns, shows nothing until `planned`.

    Nothing that goes wrong while showing disturbs the run. `since` is the clock's time at which the run began.
    """

    def __init__(self, stream: TextIO, since: float, clock: Callable[[], float]) -> None:
        self.stream = stream
        self.state = BoardState()
        self._since, self._clock = since, clock
        self._showing = False
        self._block: board_live.Block | None = None

    def phase(self, host: str, phase: str, instance: str = "", detail: str = "") -> None:
        """Show where a host is in its turn: a phase of an order's events, or any other word ("driver", "reboot")."""
        with contextlib.suppress(Exception):
            state = self.state.told(host, phase, instance, detail, self._clock())
            turn = state.turns.get(host)
            self._take(state, board_words.phase_line(turn, instance) if turn else None)

    def takes(self, host: str, note: str) -> bool:
        """Show what is happening within a phase, and tell whether it is shown: a line of it is needed otherwise."""
        with contextlib.suppress(Exception):
            if self._block is not None and host in self.state.turns:
                self.state = self.state.noted(host, note)
                return True
        return False

    def planned(self, waves: Sequence[Sequence[str]]) -> None:
        """Begin to show; called by the conductor, as all below."""
        with contextlib.suppress(Exception):
            self.state = BoardState.planned(waves)
            self._showing = bool(waves)
            if self._showing and board_live.possible(self.stream):
                self._open(board_live.Block(self.stream, self._drawn))

    def wave(self, number: int) -> None:
        """A wave begins."""
        with contextlib.suppress(Exception):
            state = self.state.wave(number)
            self._take(state, board_words.wave_line(state))

    def began(self, host: str) -> None:
        """A host's turn begins."""
        with contextlib.suppress(Exception):
            self._take(self.state.began(host, self._clock()))

    def ended(self, host: str, result: Result) -> None:
        """A host's turn is over."""
        with contextlib.suppress(Exception):
            how = "" if result.good else result.how or "failed"
            state = self.state.finished(host, how, self._clock())
            self._take(state, board_words.end_line(state.ended[-1]))

    def soaking(self, number: int, seconds: float) -> None:
        """A pause after a wave begins."""
        with contextlib.suppress(Exception):
            self._take(self.state.soaking(seconds, self._clock()), board_words.soak_line(number, seconds))

    def stopped(self, why: str) -> None:
        """No further host begins."""
        with contextlib.suppress(Exception):
            state = self.state.halted(why)
            self._take(state, board_words.stop_line(state))

    def close(self) -> None:
        """Leave the last state on the stream as plain text and give the terminal back; safe to call twice."""
        self._showing = False
        shown, self._block = self._block, None
        if shown is not None:
            shown.close()

    def _open(self, opened: board_live.Block) -> None:
        """Go over to a block; where it cannot be drawn, lines are written."""
        try:
            opened.open()
        except Exception:
            opened.close()
            return
        self._block = opened

    def _take(self, state: BoardState, line: str | None = None) -> None:
        """Remember what is new; without a block it is written, as far as there is a line for it."""
        news, self.state = state is not self.state, state
        if line and news and self._showing and self._block is None:
            text = board_words.stamped(self._clock() - self._since, line)
            write(Terminal.of(self.stream).say(text), self.stream)

    def _drawn(self, width: int, height: int) -> Group:
        now = self._clock()
        return block(self.state, now, now - self._since, width, height)
