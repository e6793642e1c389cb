"""Read vLLM options as users write them: dashes, flags and their negations, numbers."""

from collections.abc import Mapping
from typing import Any

from rackhand.catalog.option_values import count


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
    return count(str(options.get(name, "")).strip())


def text(options: Mapping[str, Any], name: str) -> str | None:
    """Return the text of an option, None when absent or "auto"."""
    value = options.get(name)
    return None if value is None or value == "auto" else str(value)


def dotted(capability: tuple[int, int]) -> str:
    """Return a compute capability as NVIDIA writes it."""
    return ".".join(map(str, capability))
