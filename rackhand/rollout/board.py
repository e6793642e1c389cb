"""What people see while hosts have their turns: a live block on a terminal, one line per change elsewhere."""

from collections.abc import Callable, Sequence
from typing import TextIO


class Board:
    """Shows a rollout on a stream (stderr); made before the turns, shows nothing until `planned`."""

    def __init__(self, stream: TextIO, since: float, clock: Callable[[], float]) -> None:
        raise NotImplementedError

    def phase(self, host: str, phase: str, instance: str = "", detail: str = "") -> None:
        """Show where a host is in its turn: a phase of an order's events, or any other word ("driver", "reboot")."""
        raise NotImplementedError

    def planned(self, waves: Sequence[Sequence[str]]) -> None:
        """Begin to show; called by the conductor."""
        raise NotImplementedError

    def close(self) -> None:
        """Leave the last state on the stream as plain text and give the terminal back; safe to call twice."""
        raise NotImplementedError
