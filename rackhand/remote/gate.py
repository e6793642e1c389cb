"""The gate, seen from the host itself: an instance counts only after five tokens came out of it."""

from __future__ import annotations

import json
import re
import time
import urllib.error
import urllib.request
from typing import Any

from rackhand.remote import units

POLL_S = 0.5
TOKENS = 5
PROMPT = "The rack is ready and the fans are"
SETTLE_S = 1.0


def wait(instances: list[dict[str, Any]], since: float, wait_s: float) -> list[dict[str, Any]]:
    """Wait at most `wait_s` until every instance answers /health or one of them fails; return what was seen."""
    deadline = time.monotonic() + wait_s
    while True:
        seen = [_look(instance, since) for instance in instances]
        if all(item["ready"] for item in seen) or any(item["failed"] for item in seen) or time.monotonic() >= deadline:
            return [{**item, "journal": [] if item["ready"] else units.journal(item["name"], since)} for item in seen]
        time.sleep(POLL_S)


def _look(instance: dict[str, Any], since: float) -> dict[str, Any]:
    unit = units.describe(instance["name"])
    failed = unit["active"] in ("failed", "inactive") or bool(unit["restarts"])
    ready = unit["active"] == "active" and _get(instance, "/health", 2)[0] == 200
    return {"name": instance["name"], "unit": unit, "failed": failed and not ready, "ready": ready}


def check(instances: list[dict[str, Any]], timeout_s: int) -> list[dict[str, Any]]:
    """Put every instance through the gate; `failure` is empty for those that passed."""
    return [_check(instance, timeout_s) for instance in instances]


def _check(instance: dict[str, Any], timeout_s: int) -> dict[str, Any]:
    before = units.describe(instance["name"])
    result: dict[str, Any] = {
        "name": instance["name"],
        "failure": "",
        "what": "",
        "text": "",
        "version": "",
        "unit": before,
    }
    if before["active"] != "active":
        return {**result, "failure": "gate-unit", "what": f"the unit is {before['active']} ({before['sub']})"}
    try:
        result.update(_questions(instance, timeout_s))
    except Rejected as rejected:
        result.update(failure=rejected.code, what=str(rejected))
    after = units.describe(instance["name"])
    if not result["failure"] and (after["pid"], after["restarts"]) != (before["pid"], before["restarts"]):
        result.update(failure="gate-restarted", what="the engine restarted while it was being checked")
    if result["failure"]:
        result["journal"] = units.journal(instance["name"], 0)
    return result


class Rejected(Exception):
    """One check of the gate said no."""

    def __init__(self, code: str, what: str) -> None:
        super().__init__(what)
        self.code = code


def _questions(instance: dict[str, Any], timeout_s: int) -> dict[str, Any]:
    _require(_get(instance, "/health", 10)[0] == 200, "gate-health", "/health does not answer 200")
    version = str(_json(instance, "/version", 10).get("version", ""))
    _require(
        version.split("+")[0] == instance["version"],
        "gate-version",
        f"/version says {version or 'nothing'}, the release is {instance['version']}",
    )
    _models(instance)
    counted = _tokens(instance)
    text = _completion(instance, timeout_s)
    moved = _tokens(instance) - counted
    _require(moved >= TOKENS, "gate-counter", f"the engine's token counter moved by {moved:g} instead of {TOKENS}")
    time.sleep(SETTLE_S)
    _require(_get(instance, "/health", 10)[0] == 200, "gate-died", "/health failed right after the first completion")
    return {"version": version, "text": text}


def _models(instance: dict[str, Any]) -> None:
    served = _json(instance, "/v1/models", 10).get("data", [])
    names = [item.get("id") for item in served]
    _require(
        instance["model"] in names,
        "gate-model",
        f"/v1/models serves {', '.join(map(str, names)) or 'nothing'}, not {instance['model']}",
    )
    context = next(item.get("max_model_len") for item in served if item.get("id") == instance["model"])
    planned = instance["max_model_len"]
    _require(
        planned is None or context == planned,
        "gate-context",
        f"the context is {context} tokens, the plan says {planned}",
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
    _, body = _get(instance, "/metrics", 10)
    label = re.escape(json.dumps(instance["model"]))
    rows = re.findall(
        rf"^vllm:generation_tokens_total\{{[^}}]*model_name={label}[^}}]*\}}\s+([0-9.eE+]+)$", body, re.MULTILINE
    )
    return sum(float(row) for row in rows)


def _json(instance: dict[str, Any], path: str, timeout_s: float, body: dict[str, Any] | None = None) -> dict[str, Any]:
    status, text = _get(instance, path, timeout_s, body)
    if status == 0:
        raise Rejected(
            "gate-timeout" if "timed out" in text else "gate-unreachable",
            f"{path} did not answer within {timeout_s} s ({text})",
        )
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    _require(status == 200 and isinstance(value, dict), "gate-answer", f"{path} answered {status}: {text[:120]!r}")
    return dict(value or {})


def _get(instance: dict[str, Any], path: str, timeout_s: float, body: dict[str, Any] | None = None) -> tuple[int, str]:
    host = f"[{instance['host']}]" if ":" in instance["host"] else instance["host"]
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
    except (urllib.error.URLError, OSError, ValueError) as error:
        return 0, str(getattr(error, "reason", error))


def _require(holds: bool, code: str, what: str) -> None:
    if not holds:
        raise Rejected(code, what)
