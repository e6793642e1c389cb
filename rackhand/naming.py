"""Names in a sentence: the first of them, and how many more there are. Pure."""

from collections.abc import Sequence


def some(names: Sequence[str], most: int) -> str:
    """Name the first `most`, and count the others."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
