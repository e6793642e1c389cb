"""What `rackhand fit` is asked: the words of the command line, read into types."""

import difflib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rackhand.catalog.option_values import count
from rackhand.errors import RackhandError

# As the settings of a deploy bound them.
SHORTEST_CONTEXT = 16
_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
# Settings of the engine that have an option of this command of their own.
ELSEWHERE = {"max-model-len": "context"}


@dataclass(frozen=True, kw_only=True)
class Question:
    """A model, GPUs by name, and wishes; `options` are engine settings by vLLM's dashed names, as for serve_options.

    `free_mib` is what is free on each GPU before the start, None for idle ones; `instances` None is as many as fit.
    """

    model: str
    gpu: str
    version: str
    preset: str = "balanced"
    context: int | None = None
    options: Mapping[str, Any]
    free_mib: int | None = None
    instances: int | None = None
    allow_fp8: bool = False
    allow_fp8_kv: bool = False
    revision: str | None = None


def options(pairs: Sequence[str]) -> dict[str, Any]:
    """Read `KEY=VALUE` words; names may have dashes or underscores, values are JSON where they can be, else text.

    Raises RackhandError `option` for a word without `=`, for a name that is none, and for one given twice.
    """
    found: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        name = key.strip().lstrip("-").replace("_", "-").lower()
        if not equals or not _NAME.fullmatch(name):
            raise _wrong(f"'{pair}' is not KEY=VALUE", "write it like --set gpu_memory_utilization=0.9")
        if name in found:
            raise _wrong(f"'{key.strip()}' is given twice", "leave one of them out")
        found[name] = value(text.strip())
    return found


def value(text: str) -> Any:
    """Read one value: true, false, numbers, JSON lists and objects; everything else is text."""
    word = text.lower()
    if word in ("true", "false"):
        return word == "true"
    if word in ("none", "null", ""):
        raise _wrong("a setting without a value", "leave it out: vLLM's own default holds then")
    try:
        return json.loads(text)
    except ValueError:
        return text


def number(text: str, what: str, least: int = 1) -> int:
    """Read a whole number as people write it (32768, 32,768, 32_768, 32k is 32,000 and 32K is 32,768, as for vLLM)."""
    found = count(re.sub(r"(?<=\d)[,_](?=\d)", "", text.strip()))
    if found is None or found < least:
        raise RackhandError("option", f"'{text}' is no whole number of at least {least}", what, "give a number")
    return found


def version(text: str) -> str:
    """Complete a version as people shorten it: 0.33 and v0.33.0 are 0.33.0."""
    bare = text.strip().removeprefix("v")
    return f"{bare}.0" if re.fullmatch(r"\d+\.\d+", bare) else bare


def one_of(text: str, known: Sequence[str], what: str) -> str:
    """Check a word against the words there are."""
    if text in known:
        return text
    near = difflib.get_close_matches(text, known, n=1)
    step = f"did you mean {near[0]}?" if near else f"choose one of {', '.join(known)}"
    raise RackhandError("option", f"there is no '{text}'", what, step)


def _wrong(what: str, next_step: str) -> RackhandError:
    return RackhandError("option", what, "--set", next_step)
