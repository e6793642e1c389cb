"""What people see while hosts have their turns: a live block on a terminal, one line per change elsewhere."""

from collections.abc import Callable, Sequence
from typing import TextIO

from rackhand.rollout.intent import Result


class Board:
    """Shows a rollout on a stream (stderr); made before the turns, shows nothing until `planned`."""

    def __init__(self, stream: TextIO, since: float, clock: Callable[[], float]) -> None:
        self.stream = stream

    def phase(self, host: str, phase: str, instance: str = "", detail: str = "") -> None:
        """Show where a host is in its turn: a phase of an order's events, or any other word ("driver", "reboot")."""

    def planned(self, waves: Sequence[Sequence[str]]) -> None:
        """Begin to show; called by the conductor, as all below."""

    def wave(self, number: int) -> None:
        """A wave begins."""

    def began(self, host: str) -> None:
        """A host's turn begins."""

    def ended(self, host: str, result: Result) -> None:
        """A host's turn is over."""

    def soaking(self, number: int, seconds: float) -> None:
        """A pause after a wave begins."""

    def stopped(self, why: str) -> None:
        """No further host begins."""

    def close(self) -> None:
        """Leave the last state on the stream as plain text and give the terminal back; safe to call twice."""
