"""Prove on a router that requests get through it: tokens of every model, streamed, as a client would get them."""

from __future__ import annotations

import http.client
import json
import ssl
import time
from typing import Any

from rackhand.remote.problem import Problem

TOKENS = 5
POLL_S = 0.2
PROMPT = "The door is open and the rack is"


def prove(door: dict[str, Any], models: list[str], wait_s: float, timeout_s: float) -> None:
    """Get a streamed completion of each model; `door` is host, port, tls and key. Raises Problem.

    `wait_s` is how long a model may take until the router sees a server of it.
    """
    deadline = time.monotonic() + wait_s
    for model in models:
        while _status(door, f"/healthz/{model}") != 200:
            if time.monotonic() > deadline:
                raise _blocked(model, f"no server of it was in service within {wait_s:.0f} s")
            time.sleep(POLL_S)
        _stream(door, model, timeout_s)


def _stream(door: dict[str, Any], model: str, timeout_s: float) -> None:
    body = {"model": model, "prompt": PROMPT, "max_tokens": TOKENS, "temperature": 0, "ignore_eos": True}
    line = _connect(door, timeout_s)
    headers = {"Content-Type": "application/json", "X-Model": model}
    headers.update({"Authorization": f"Bearer {door['key']}"} if door["key"] else {})
    try:
        line.request("POST", "/v1/completions", json.dumps({**body, "stream": True}), headers)
        answer = line.getresponse()
        text = answer.read(1 << 20).decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        raise _blocked(model, f"the request broke off: {error}") from None
    finally:
        line.close()
    if answer.status == 401 and not door["key"]:
        return  # a server said so: the way to it is open, and who asked has no key
    events = [part[len("data: ") :] for part in text.split("\n\n") if part.startswith("data: ")]
    if answer.status != 200:
        raise _blocked(model, f"it was answered with status {answer.status}: {' '.join(text.split())[:160]}")
    if len(events) < 2 or events[-1].strip() != "[DONE]":
        raise _blocked(model, f"the stream had {len(events)} events and ended with {events[-1:]}")


def _status(door: dict[str, Any], path: str) -> int:
    line = _connect(door, 5)
    try:
        line.request("GET", path)
        return line.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        line.close()


def _connect(door: dict[str, Any], timeout_s: float) -> http.client.HTTPConnection:
    """Connect to this very host: its certificate names the address that clients use."""
    if not door["tls"]:
        return http.client.HTTPConnection(door["host"], door["port"], timeout=timeout_s)
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return http.client.HTTPSConnection(door["host"], door["port"], timeout=timeout_s, context=context)


def _blocked(model: str, what: str) -> Problem:
    return Problem(
        "router-path",
        f"a request for {model} does not get through the router: {what}",
        "see the servers on the router's management port and 'journalctl -u haproxy'; then run again",
    )
