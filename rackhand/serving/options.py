"""Read vLLM options as users write them: dashes, flags and their negations, numbers."""

import re
from collections.abc import Mapping
from typing import Any

_NUMBER = re.compile(r"(\d+)([kKmM]?)")
_FACTORS = {"": 1, "k": 1000, "K": 1 << 10, "m": 1_000_000, "M": 1 << 20}


def given(options: Mapping[str, Any], name: str) -> bool:
    """Tell whether a user gave an option or its negation."""
    bare = name.removeprefix("enable-")
    return any(key in options for key in (name, f"no-{name}", f"disable-{bare}"))


def flag(options: Mapping[str, Any], name: str) -> bool | None:
    """Return a flag as the user set it, in either form; None when the user did not."""
    for key, meaning in ((name, True), (f"no-{name}", False), (f"disable-{name.removeprefix('enable-')}", False)):
        if key in options:
            return meaning if options[key] is not False else not meaning
    return None


def whole(options: Mapping[str, Any], name: str) -> int | None:
    """Return a number as vLLM reads it ("8k" is 8000, "8K" is 8192); None when absent or no number."""
    found = _NUMBER.fullmatch(str(options.get(name, "")))
    return int(found[1]) * _FACTORS[found[2]] if found else None


def text(options: Mapping[str, Any], name: str) -> str | None:
    """Return the text of an option, None when absent or "auto"."""
    value = options.get(name)
    return None if value is None or value == "auto" else str(value)


def dotted(capability: tuple[int, int]) -> str:
    """Return a compute capability as NVIDIA writes it."""
    return ".".join(map(str, capability))
