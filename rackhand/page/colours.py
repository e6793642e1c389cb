"""The colours of the page, for light and dark screens; letters have a contrast of 4.5 or more on their paper."""

from rackhand.outcome import HostStatus
from rackhand.page.phases import Phase

# Okabe and Ito's palette and its neighbours, told apart by every kind of colour vision.
PHASES = {
    Phase.SERVING: "#2f9e78",
    Phase.DRAIN: "#f0d442",
    Phase.STOP: "#8c959f",
    Phase.SWITCH: "#0072b2",
    Phase.HELD: "#cc79a7",
    Phase.START: "#56b4e9",
    Phase.GATE: "#14735a",
    Phase.RESTORE: "#e69f00",
    Phase.DOWN: "#c0392b",
    Phase.ABSENT: "#b6bec7",
    Phase.TURN: "#7d8fb3",
}
LIGHT = {
    "paper": "#ffffff", "sheet": "#f6f8fa", "ink": "#1b1f24", "faint": "#59636e", "line": "#d8dee4", "band": "#eef2f6",
    "good": "#116b4f", "good-paper": "#dcf3ea", "bad": "#a32020", "bad-paper": "#fde8e6",
    "back": "#7d4c00", "back-paper": "#fdf0d5", "still": "#59636e", "still-paper": "#eaeef2", "out": "#c0392b",
}  # fmt: skip
DARK = {
    "paper": "#15191e", "sheet": "#1c2128", "ink": "#e6edf3", "faint": "#9aa5b1", "line": "#343c46", "band": "#222933",
    "good": "#6fdcb4", "good-paper": "#14352b", "bad": "#ff9d94", "bad-paper": "#431d1b",
    "back": "#f5c469", "back-paper": "#3d2e10", "still": "#9aa5b1", "still-paper": "#2a313a", "out": "#ff6b5e",
}  # fmt: skip
_TONES = {HostStatus.ROLLED_BACK: "back", HostStatus.INTERRUPTED: "back", HostStatus.NOT_RUN: "still"}


def tone(status: HostStatus) -> str:
    """Return the name of a status's colour."""
    return "good" if status.good else _TONES.get(status, "bad")
