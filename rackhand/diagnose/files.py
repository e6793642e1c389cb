"""Read observations from files and addresses: metrics pages, journals, settings, benchmark results, GPU samples."""

import http.client
import json
import re
import sys
import time
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from rackhand.diagnose.metrics import Traffic, traffic
from rackhand.diagnose.observation import Bench, Unit, options
from rackhand.errors import RackhandError

ADDRESS = re.compile(r"^https?://")
PERCENT = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*%?\s*$")
ANSWER_S = 10
LOOK_EVERY_S = 1.0


def text(source: str) -> str:
    """Read a file, an http address, or standard input (`-`); raises RackhandError `unreadable`."""
    try:
        if source == "-":
            return sys.stdin.read()
        if ADDRESS.match(source):
            # An engine's own port is never behind a proxy.
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            with opener.open(source, timeout=ANSWER_S) as answer:
                return str(answer.read().decode(errors="replace"))
        return Path(source).expanduser().read_text(errors="replace")
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "strerror", None) or getattr(error, "reason", None) or error
        raise RackhandError("unreadable", f"cannot be read: {reason}", source, "correct the path or address") from None


def lines(source: str) -> tuple[str, ...]:
    return tuple(text(source).splitlines())


def looks(source: str, before: str | None, seconds: float) -> Traffic:
    """Look at a page of metrics: a file once, or after an earlier one; an address for so many seconds."""
    if before is not None:
        return traffic([text(before), text(source)], source)
    pages, begun = [text(source)], time.monotonic()
    while ADDRESS.match(source) and time.monotonic() - begun < seconds:
        time.sleep(LOOK_EVERY_S)
        pages.append(text(source))
    return traffic(pages, source, time.monotonic() - begun)


def settings(source: str) -> dict[str, Any]:
    """Read the YAML that an engine was started with (`--config`)."""
    return settings_of(text(source), source)


def settings_of(written: str, where: str) -> dict[str, Any]:
    """Return an engine's options by their dashed names; raises RackhandError `unreadable`."""
    try:
        raw = yaml.safe_load(written)
    except yaml.YAMLError:
        raw = None
    if not isinstance(raw, dict):
        raise RackhandError(
            "unreadable", "is no YAML with the engine's options", where, "give an instance's .yaml file"
        )
    return options(raw)


def bench(source: str) -> Bench:
    """Read a result of `vllm bench serve --save-result`; of several, one per line, the last counts."""
    written = text(source)
    for part in (written, *reversed(written.strip().splitlines())):
        try:
            found = json.loads(part)
        except ValueError:
            continue
        if isinstance(found, dict) and "completed" in found:
            return _bench(found)
    what = "is no result of vllm bench serve"
    raise RackhandError("unreadable", what, source, "give the JSON file that --save-result writes")


def _bench(found: Mapping[str, Any]) -> Bench:
    def number(name: str) -> float | None:
        value = found.get(name)
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None

    return Bench(
        completed=int(number("completed") or 0),
        median_tpot_ms=number("median_tpot_ms"),
        median_ttft_ms=number("median_ttft_ms"),
        output_tok_s=number("output_throughput"),
    )


def utilisation(source: str) -> tuple[float, ...]:
    """Read one percentage per line, as `nvidia-smi --query-gpu=utilization.gpu --format=csv -l 1` writes them."""
    found = tuple(
        float(match[1]) for line in lines(source) if (match := PERCENT.match(line)) and float(match[1]) <= 100
    )
    if not found:
        what = "holds no line with a percentage"
        raise RackhandError("unreadable", what, source, "give nvidia-smi --query-gpu=utilization.gpu --format=csv -l 1")
    return found


def unit(source: str) -> Unit:
    """Read what `systemctl show` says about the engine's unit."""
    values = dict(line.split("=", 1) for line in lines(source) if "=" in line)
    if "ActiveState" not in values:
        raise RackhandError("unreadable", "names no ActiveState", source, "give the output of systemctl show UNIT")
    restarts = values.get("NRestarts", "0")
    return Unit(
        active=values["ActiveState"],
        enabled=values.get("UnitFileState") == "enabled",
        restarts=int(restarts) if restarts.isdigit() else 0,
    )


def context(source: str, model: Sequence[str] = ()) -> int | None:
    """Read the context that /v1/models names, of `model` where it is listed; None when it names none."""
    try:
        listed = [item for item in json.loads(text(source))["data"] if isinstance(item, dict)]
    except (ValueError, KeyError, TypeError):
        what = "is no answer of /v1/models"
        raise RackhandError("unreadable", what, source, "give the JSON that the engine answers there") from None
    chosen = [item for item in listed if item.get("id") in model] or listed
    found = chosen[0].get("max_model_len") if chosen else None
    return found if isinstance(found, int) else None
