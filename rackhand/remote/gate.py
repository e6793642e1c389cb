"""The gate, seen from the host itself: an instance counts only after five tokens came out of it."""

from __future__ import annotations

import http.client
import json
import re
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from rackhand.remote import startup, units

POLL_S = 0.15
# systemd takes this long at most to act on a start that it was asked for.
QUEUE_S = 15.0
TOKENS = 5
PROMPT = "The rack is ready and the fans are"
SETTLE_S = 1.0
ENDED = ("failed", "inactive")
EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def wait(instances: list[dict[str, Any]], wait_s: float) -> list[dict[str, Any]]:
    """Wait at most `wait_s` until every instance answers /health or one of them failed; return what was seen."""
    deadline = time.monotonic() + wait_s
    while True:
        seen = [look(instance) for instance in instances]
        if all(item["ready"] for item in seen) or any(item["failed"] for item in seen) or time.monotonic() >= deadline:
            pairs = zip(instances, seen)
            return [{**item, "journal": [] if item["ready"] else journal(instance, item)} for instance, item in pairs]
        time.sleep(POLL_S)


def look(instance: dict[str, Any]) -> dict[str, Any]:
    """Look at one instance: `before` is the invocation that must be gone, `restarts` how many are no failure."""
    unit = units.describe(instance["name"])
    begun = unit["invocation"] != instance["before"] or not instance["since"]
    ready = begun and unit["active"] == "active" and get(instance, "/health", 2)[0] == 200
    overdue = bool(instance["since"]) and time.time() > instance["since"] + QUEUE_S
    # Between the stop and the start of a restart a unit is inactive, with the job still before it.
    ended = (begun or overdue) and not unit["job"] and (unit["active"] in ENDED or unit["sub"] == "auto-restart")
    allowed = instance["restarts"]
    again = begun and allowed is not None and unit["restarts"] > allowed
    return {"name": instance["name"], "unit": unit, "failed": not ready and (ended or again), "ready": ready}


def journal(instance: dict[str, Any], item: dict[str, Any]) -> list[str]:
    """Return what the start that is waited for has said so far."""
    if instance["since"]:
        return units.journal(instance["name"], since=instance["since"], without=instance["before"])
    return units.journal(instance["name"], only=item["unit"]["invocation"])


def check(instances: list[dict[str, Any]], timeout_s: int) -> list[dict[str, Any]]:
    """Put every instance through the gate, all at once; `failure` is empty for those that passed.

    Of those whose `report` is wished, `reported` says what their engines told of their memory when they started.
    """
    with ThreadPoolExecutor(max_workers=len(instances)) as pool:
        return list(pool.map(lambda instance: _check(instance, timeout_s), instances))


def _check(instance: dict[str, Any], timeout_s: int) -> dict[str, Any]:
    before = units.describe(instance["name"])
    result: dict[str, Any] = {
        "name": instance["name"],
        "failure": "",
        "what": "",
        "text": "",
        "version": "",
        "journal": [],
    }
    try:
        result.update(_questions(instance, timeout_s))
    except Rejected as rejected:
        result.update(failure=rejected.code, what=str(rejected))
        time.sleep(SETTLE_S)
    return _settled(instance, before, result)


def _settled(instance: dict[str, Any], before: dict[str, Any], result: dict[str, Any]) -> dict[str, Any]:
    """Tell a wrong answer from an engine that is dead: then no answer of it says anything."""
    after = units.describe(instance["name"])
    gone = (after["active"], after["pid"], after["restarts"]) != ("active", before["pid"], before["restarts"])
    if gone or get(instance, "/health", 10)[0] in (0, 503):
        what = result["what"] or "it had just answered"
        result.update(failure="engine-died", what=what)
    if result["failure"]:
        result["journal"] = units.journal(instance["name"], only=before["invocation"])
    elif instance.get("report"):
        result["reported"] = reported(instance, after)
    return {**result, "unit": after}


def reported(instance: dict[str, Any], unit: dict[str, Any]) -> dict[str, Any]:
    """Return what an engine told of its memory when it started."""
    return startup.read(unit["invocation"], get(instance, "/metrics", 10)[1])


class Rejected(Exception):
    """One check of the gate said no."""

    def __init__(self, code: str, what: str) -> None:
        super().__init__(what)
        self.code = code


def _questions(instance: dict[str, Any], timeout_s: int) -> dict[str, Any]:
    health = get(instance, "/health", 10)[0]
    _require(health == 200, "gate-health", f"/health answered {health or 'nothing'} instead of 200")
    version = str(_json(instance, "/version", 10).get("version", ""))
    _require(
        version.split("+")[0] == instance["version"],
        "gate-version",
        f"/version says {version or 'nothing'}, the release is {instance['version']}",
    )
    _models(instance)
    counted = _tokens(instance)
    text = _completion(instance, timeout_s)
    # A dead engine answers for a moment longer, and its counters follow the answer.
    time.sleep(SETTLE_S)
    moved = _tokens(instance) - counted
    what = f"the engine's counter of generated tokens (/metrics) moved by {moved:g} for {TOKENS} tokens"
    _require(moved >= TOKENS, "gate-counter", what)
    return {"version": version, "text": text}


def _models(instance: dict[str, Any]) -> None:
    listed = _json(instance, "/v1/models", 10).get("data")
    served = [item for item in listed if isinstance(item, dict)] if isinstance(listed, list) else []
    names = [item.get("id") for item in served]
    _require(
        instance["model"] in names,
        "gate-model",
        f"/v1/models serves {', '.join(map(str, names)) or 'nothing'}, the plan says {instance['model']}",
    )
    context = next(item.get("max_model_len") for item in served if item.get("id") == instance["model"])
    planned = instance["max_model_len"]
    _require(
        planned is None or context == planned,
        "gate-context",
        f"/v1/models says a context of {context} tokens, the plan says {planned}",
    )


def _completion(instance: dict[str, Any], timeout_s: int) -> str:
    body = {"model": instance["model"], "prompt": PROMPT, "max_tokens": TOKENS, "temperature": 0, "ignore_eos": True}
    answer = _json(instance, "/v1/completions", timeout_s, body)
    try:
        tokens, choice = answer["usage"]["completion_tokens"], answer["choices"][0]
        text, reason = choice["text"], choice["finish_reason"]
    except (KeyError, IndexError, TypeError):
        raise Rejected(
            "gate-completion", f"the completion is not in the OpenAI form: {json.dumps(answer)[:120]}"
        ) from None
    _require(tokens == TOKENS, "gate-tokens", f"asked for {TOKENS} tokens, got {tokens}")
    _require(reason == "length", "gate-finish", f"the completion finished with '{reason}' instead of 'length'")
    _require(isinstance(text, str) and text != "", "gate-text", "the completion holds no text")
    return str(text)


def _tokens(instance: dict[str, Any]) -> float:
    _, body = get(instance, "/metrics", 10)
    label = re.escape(json.dumps(instance["model"]))
    rows = re.findall(
        rf"^vllm:generation_tokens_total\{{[^}}]*model_name={label}[^}}]*\}}\s+([0-9.eE+]+)$", body, re.MULTILINE
    )
    return sum(float(row) for row in rows)


def _json(instance: dict[str, Any], path: str, timeout_s: float, body: dict[str, Any] | None = None) -> dict[str, Any]:
    status, text = get(instance, path, timeout_s, body)
    if status == 0:
        slow = "timed out" in text
        raise Rejected(
            "gate-timeout" if slow else "gate-unreachable",
            f"{path} did not answer within {timeout_s} s" if slow else f"{path}: {text}",
        )
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if status == 200:
        _require(isinstance(value, dict), "gate-completion", f"{path} answered no JSON object: {text[:120]!r}")
        return dict(value or {})
    raise Rejected("gate-answer", f"{path} answered {status}: {_reason(value, text)}")


def _reason(value: Any, text: str) -> str:
    """Return the message of an OpenAI error, or the beginning of what came instead."""
    error = value.get("error", value) if isinstance(value, dict) else None
    message = error.get("message") if isinstance(error, dict) else error
    return str(message or text)[:160]


def get(instance: dict[str, Any], path: str, timeout_s: float, body: dict[str, Any] | None = None) -> tuple[int, str]:
    """Ask an instance, with its `key` if there is one; return status and body, or 0 and what went wrong."""
    host = EVERYWHERE.get(instance["host"], instance["host"])
    host = f"[{host}]" if ":" in host else host
    headers = {"Content-Type": "application/json"}
    if instance.get("key"):
        headers["Authorization"] = f"Bearer {instance['key']}"
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(f"http://{host}:{instance['port']}{path}", data=data, headers=headers)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=timeout_s) as answer:
            return answer.status, answer.read(1 << 22).decode(errors="replace")
    except urllib.error.HTTPError as error:
        return error.code, error.read(1 << 16).decode(errors="replace")
    except (urllib.error.URLError, http.client.HTTPException, OSError, ValueError) as error:
        return 0, str(getattr(error, "reason", error))


def _require(holds: bool, code: str, what: str) -> None:
    if not holds:
        raise Rejected(code, what)
