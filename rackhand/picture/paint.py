"""The colours and sizes that every painter of the memory bill uses."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Paper:
    """The colours that depend on whether the reader's screen is light or dark."""

    paper: str
    ink: str
    faint: str
    free: str


LIGHT = Paper(paper="#ffffff", ink="#1b1f24", faint="#59636e", free="#e4e8ec")
DARK = Paper(paper="#15191e", ink="#e6edf3", faint="#9aa5b1", free="#343c46")
# Okabe and Ito's palette, told apart by every kind of colour vision; dark letters are readable on all of it.
FILLS = {
    "weights": "#56b4e9",
    "activation": "#f0e442",
    "non_torch": "#d55e00",
    "cuda_graphs": "#cc79a7",
    "kv_cache": "#35b28a",
    "other_processes": "#8c959f",
}
OTHER = "#8c959f"
INSIDE = "#10151a"
SIZES = {"title": 24, "heading": 17, "text": 15, "faint": 14, "inside": 15}
STROKES = {"allowed": 2, "edge": 2, "tick": 1}


def fill(role: str) -> str:
    """Return the colour of a term of the bill in light surroundings."""
    return LIGHT.free if role == "free" else FILLS.get(role, OTHER)
