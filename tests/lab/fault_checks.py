"""What must hold after every fault: nobody is left drained, half-switched, locked or silent, and the report is true."""

import contextlib
import http.client
import json
from collections.abc import Iterator, Mapping
from typing import Any

from rackhand import payload
from rackhand.lab.host import LabHost
from tests.lab.deploying import Result
from tests.lab.fault_stage import KEY, Stage

GOOD = ("healthy", "unchanged")
PROBE_S = 5
# What a run says of a host that it lost sight of: what became of it, it cannot know.
OUT_OF_SIGHT = ("connection-lost", "timeout", "turn-timeout")
# What a report says where rackhand does not know what happened to it; no fault of the matrix is so strange.
AT_A_LOSS = ("internal", "remote-crash")
Standing = Mapping[str, Any]


def standing(host: LabHost) -> Standing:
    """Ask a host itself, past SSH, how it stands; empty where it does not answer."""
    wanted = {"root": "/opt/rackhand", "packages": [], "loader": payload.LOADER, "probe_s": PROBE_S}
    text = payload.pack("status.status", {**wanted, "nvml_payload": payload.nvml_probe()})
    with contextlib.suppress(Exception):
        done = host.run(["python3", "-c", payload.LOADER], stdin=text, timeout_s=30)
        return dict(json.loads(done.stdout.splitlines()[-1])["result"])
    return {}


def release(seen: Standing) -> str:
    """Name the current release; empty where there is none."""
    return str((seen.get("release") or {}).get("id", ""))


def unwell(stage: Stage, seen: Standing, known: frozenset[str]) -> Iterator[str]:
    """Name what is wrong with a host that served before: it must serve a release that worked, old or new."""
    if not seen:
        yield "the host does not answer"
        return
    current = seen["release"] or {"id": "", "verdict": "", "instances": []}
    if seen["order"]:
        yield f"an order is open: {seen['order']}"
    if current["id"] not in known:
        yield f"current is {current['id'] or 'nothing'}, known are {sorted(known)}"
    if current["verdict"] != "passed":
        yield f"current did not pass its gate: {current['verdict'] or 'no verdict'}"
    configs = {item["name"]: item["config"] for item in current["instances"]}
    for item in seen["instances"]:
        yield from _instance(item, configs.get(item["name"], ""))
    if not _completes(stage):
        yield "no tokens through the router"


def _instance(item: Mapping[str, Any], config: str) -> Iterator[str]:
    name, unit, gate = item["name"], item["unit"], item["gate"]
    if unit["running_config"] != config:
        yield f"{name} runs with {unit['running_config'] or 'nothing'}, current wants {config or 'nothing'}"
    if item["state"] != "ready":
        yield f"{name} is left {item['state']}"
    if config and not unit["enabled"]:
        yield f"{name} would not start at boot"
    if config and (gate is None or gate["failure"]):
        yield f"{name} serves nothing: {gate['what'] if gate else unit['active']}"


def _completes(stage: Stage) -> bool:
    """Get five tokens through the router, from outside."""
    body = json.dumps({"model": "tiny", "prompt": "hi", "max_tokens": 5})
    with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
        line = http.client.HTTPConnection(stage.front.address, 8080, timeout=PROBE_S)
        with contextlib.closing(line):
            line.request("POST", "/v1/completions", body, {"Authorization": f"Bearer {KEY}"})
            answer = line.getresponse()
            return answer.status == 200 and json.loads(answer.read())["usage"]["completion_tokens"] == 5
    return False


def lies(stage: Stage, result: Result, seen: Standing, old: str) -> Iterator[str]:
    """Name what a report says that is not so; a run that was killed says nothing."""
    if result.status < 0:
        return
    if not result.report:
        yield f"the run ended with {result.status} and left no report"
        return
    if result.status == 124:
        yield "the run did not end"
    statuses = {host["name"]: host["status"] for host in result.report["hosts"]}
    good = all(status in GOOD for status in statuses.values())
    if good != (result.status == 0):
        yield f"exit status {result.status} with {statuses}"
    host = result.host(f"{stage.name}-rack")
    yield from _rack(host, release(seen), old)
    if _in_sight(host):
        yield from locked(seen)


def locked(seen: Standing) -> Iterator[str]:
    """Name the run whose lease is left behind, though it saw its host to the end."""
    if lease := seen.get("lease"):
        yield f"the host is left locked by run {lease['run']}"


def _in_sight(host: Mapping[str, Any]) -> bool:
    return not {problem["code"] for problem in host["problems"]} & {*OUT_OF_SIGHT}


def _rack(host: Mapping[str, Any], current: str, old: str) -> Iterator[str]:
    status, codes = host["status"], [problem["code"] for problem in host["problems"]]
    if status == "healthy" and current == old:
        yield "healthy is what the report says of a host that serves the old release"
    if status == "rolled back" and current != old:
        yield "rolled back is what the report says of a host that serves the new release"
    if at_a_loss := set(codes) & set(AT_A_LOSS):
        yield f"the report is at a loss: {sorted(at_a_loss)}"
    known = status in GOOD or _in_sight(host)
    if known and status != "interrupted" and host["release"] != current:
        yield f"the report says {status} with {host['release'] or 'nothing'}, the host serves {current}"
