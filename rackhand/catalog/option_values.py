"""Whether a value is one that vLLM's parser would take for an option."""

import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from rackhand.catalog.vllm_options import Kind, Option

DECIMAL = {"k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
BINARY = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
WORDS = {
    Kind.FLAG: "true or false",
    Kind.SWITCH: "true (leave it out otherwise: it cannot be negated)",
    Kind.INT: "a whole number",
    Kind.COUNT: "a whole number, or one with k, m, g (thousands) or K, M, G (1024s)",
    Kind.CONTEXT: "a whole number, one with k or K, or auto",
    Kind.FLOAT: "a number",
    Kind.TEXT: "text",
    Kind.WORD: "text",
    Kind.JSON: "a mapping, or JSON as text",
    Kind.ANY: "a mapping or text",
}


def wanted(option: Option) -> str:
    """Say what a value must be."""
    words = f"one of {', '.join(option.choices)}" if option.choices else WORDS[option.kind]
    return f"{words}, or a list of such" if option.many else words


def takes(option: Option, value: Any) -> bool:
    """Tell whether vLLM's parser takes `value`, given as Python data or as text."""
    if option.many and isinstance(value, list | tuple):
        return bool(value) and all(_takes(option, each) for each in value)
    return _takes(option, value)


def as_number(option: Option, value: Any) -> float | None:
    """Return the number that vLLM reads from a value, None where it reads none."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return float(value) if math.isfinite(value) else None
    if not isinstance(value, str):
        return None
    reading = {Kind.INT: _whole, Kind.COUNT: _count, Kind.CONTEXT: _context, Kind.FLOAT: _fraction}.get(option.kind)
    return reading(value.strip()) if reading else None


def count(text: str) -> int | None:
    """Return the whole number that vLLM reads from a text ("8k" is 8000, "8K" 8192, "1.5k" 1500), None for none."""
    found = re.fullmatch(r"(\d{1,18}(?:\.\d+)?)([kKmMgGtT])", text, re.ASCII)
    if found is None:
        return int(text) if re.fullmatch(r"[+-]?\d{1,18}", text, re.ASCII) else None
    if found[2] in DECIMAL:
        return int(float(found[1]) * DECIMAL[found[2]])
    return None if "." in found[1] else int(found[1]) * BINARY[found[2]]


def _takes(option: Option, value: Any) -> bool:
    if option.choices and not _chosen(option, value):
        return False
    return CHECKS[option.kind](option, value)


def _chosen(option: Option, value: Any) -> bool:
    text = str(value)
    return (text.lower().replace("-", "_") if option.kind is Kind.WORD else text) in option.choices


def _flag(option: Option, value: Any) -> bool:
    return isinstance(value, bool) and (value or option.kind is Kind.FLAG)


def _numeric(option: Option, value: Any) -> bool:
    if isinstance(value, float) and option.kind is not Kind.FLOAT:
        return False
    return as_number(option, value) is not None


def _text(option: Option, value: Any) -> bool:
    return isinstance(value, str | int | float) and not isinstance(value, bool)


def _json(option: Option, value: Any) -> bool:
    if isinstance(value, Mapping):
        return True
    # A YAML list becomes several arguments in vLLM's --config file, and not one of JSON.
    try:
        return isinstance(value, str) and isinstance(json.loads(value), dict | list)
    except (ValueError, RecursionError):
        return False


def _any(option: Option, value: Any) -> bool:
    return isinstance(value, Mapping) or _text(option, value)


CHECKS: dict[Kind, Callable[[Option, Any], bool]] = {
    Kind.FLAG: _flag,
    Kind.SWITCH: _flag,
    Kind.INT: _numeric,
    Kind.COUNT: _numeric,
    Kind.CONTEXT: _numeric,
    Kind.FLOAT: _numeric,
    Kind.TEXT: _text,
    Kind.WORD: _text,
    Kind.JSON: _json,
    Kind.ANY: _any,
}


def _whole(text: str) -> float | None:
    return float(text) if re.fullmatch(r"[+-]?\d{1,18}", text, re.ASCII) else None


def _count(text: str) -> float | None:
    number = count(text)
    return None if number is None else float(number)


def _context(text: str) -> float | None:
    return -1.0 if text.lower() == "auto" else _count(text)


def _fraction(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
