"""One host that is not there: it answers what rackhand.remote would answer on a real one, and changes as it would."""

import asyncio
import hashlib
import json
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from rackhand.remote import files
from rackhand.remote import state as remote_state

TEXT = "one two three four five"


@dataclass(frozen=True, kw_only=True)
class Pace:
    """Seconds that things take on a simulated host: one server's stop, its start, and its gate."""

    stop_s: float = 0.3
    start_s: float = 5.0
    gate_s: float = 1.0


@dataclass
class Turn:
    """An order that is being carried out: when what becomes known, as (time.time, phase, instance)."""

    order: dict[str, Any]
    before: str
    events: list[tuple[float, str, str]]
    closed: bool = False

    @property
    def known(self) -> list[tuple[float, str, str]]:
        return [event for event in self.events if event[0] <= time.time()]

    def said(self, offset: int) -> list[dict[str, Any]]:
        known = self.known[offset:]
        return [{"at": at, "phase": phase, "instance": name, "detail": ""} for at, phase, name in known]


@dataclass
class SimulatedHost:
    """One host with its state; methods are named as the functions of rackhand.remote that they stand for."""

    name: str
    facts: dict[str, Any]
    pace: Pace
    asked: Counter[str]
    manifests: dict[str, dict[str, Any]] = field(default_factory=dict)
    drop_ins: dict[str, dict[str, str]] = field(default_factory=dict)
    venvs: dict[str, dict[str, Any]] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)
    programs: set[str] = field(default_factory=set)
    turn: Turn | None = None

    async def answer(self, function: str, arguments: dict[str, Any]) -> Any:
        """Return what a function answers; None from those that are not simulated."""
        self.asked[function] += 1
        does: Callable[..., Any] | None = getattr(self, function.replace(".", "_"), None)
        if does is None:
            self.asked[f"{function} (not simulated)"] += 1
            return None
        said = does(**arguments)
        return await said if asyncio.iscoroutine(said) else said

    @property
    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = self.facts["state"]
        return found

    def survey_survey(self, venv: str, model: str, uv: str, **_: Any) -> dict[str, Any]:
        here = dict(self.state, venv=self.venvs.get(venv, {}), model=self.model, model_intact=bool(self.model))
        return {**self.facts, "state": here}

    def lease_take(self, **_: Any) -> dict[str, Any]:
        return {"taken_over": None}

    def account_prepare(self, packages: list[str], **_: Any) -> None:
        self.state["user"] = True
        self.facts["packages"]["installed"].update(dict.fromkeys(packages, "1"))

    def driver_stage(self, **_: Any) -> dict[str, str]:
        return {"set": "stored", "here": "", "why": ""}

    def driver_put(self, packages: list[str], version: str, **_: Any) -> list[str]:
        self.facts["packages"]["installed"].update(dict.fromkeys(packages, f"{version}-1"))
        self.facts["packages"]["held"] = list(packages)
        return list(packages)

    def program_install(self, digest: str, units: dict[str, str], **_: Any) -> bool:
        new = digest not in self.programs
        self.programs.add(digest)
        digests = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in units.items()}
        self.state["program"] = {"digest": digest, "units": digests}
        return new

    def weights_open_incoming(self, model: str, wanted: list[dict[str, Any]], **_: Any) -> dict[str, Any]:
        return {"place": f"/incoming/{model}", "missing": [item["path"] for item in wanted]}

    def weights_download(self, model: str, **_: Any) -> None:
        file = {"path": "model.safetensors", "size": 16 << 30, "sha256": "0" * 64}
        self.model = {"source": model, "bytes": file["size"], "files": [file]}

    def venv_accept_uv(self, **_: Any) -> None:
        self.state["uv"] = True

    def venv_build(self, digest: str, requirements: str, **_: Any) -> dict[str, Any]:
        version = requirements.partition("==")[2].split()[0]
        self.venvs[digest] = {"digest": digest, "vllm": version, "seconds": 1.0}
        return self.venvs[digest]

    def release_place(self, release: str, content: dict[str, Any], venv: str, model: str, **_: Any) -> dict[str, Any]:
        self.manifests[release] = json.loads(content["manifest.json"]["text"])
        self.state["releases"][release], self.drop_ins[release] = _lain_down(json.dumps(content), venv, model)
        return {"options_checked": True}

    def order_begin(self, order: dict[str, Any], **_: Any) -> dict[str, Any]:
        before = self.state["current"]
        self.turn = Turn(order=order, before=before, events=self._timetable(order))
        return {"now": time.time(), "back": before}

    def _timetable(self, order: dict[str, Any]) -> list[tuple[float, str, str]]:
        """Plan the whole turn: servers change one after the other, or all together where nothing serves."""
        at = time.time()
        events, serves = [(at, "armed", "")], {unit["name"] for unit in self.state["instances"]}
        changed = [item["name"] for item in self.manifests[order["to"]]["instances"]]
        size = max(1, order.get("at_once", 1)) if serves else len(changed)
        for first in range(0, len(changed), size):
            group = changed[first : first + size]
            for step, takes_s in self._steps(serves):
                at += takes_s
                events += [(at, step, name) for name in group]
            if first == 0:
                events.append((at, "switched", ""))
        return [*sorted(events, key=lambda event: event[0]), (at + 0.05, "accepted", "")]

    def _steps(self, serves: set[str]) -> list[tuple[str, float]]:
        down = [("drain", 0.01), ("drained", 0.5), ("stop", 0.01), ("stopped", self.pace.stop_s), ("freed", 0.05)]
        up = [("start", 0.05), ("answering", self.pace.start_s), ("gated", self.pace.gate_s), ("serving", 0.01)]
        return [*down, *up] if serves else up

    async def order_watch(self, offset: int, wait_s: float, **_: Any) -> dict[str, Any]:
        turn = self.turn
        assert turn is not None
        ahead = [at for at, _, _ in turn.events[max(offset, len(turn.known)) :]] if not turn.said(offset) else []
        if not turn.said(offset):
            await asyncio.sleep(max(0.0, min([wait_s, *(at - time.time() + 0.01 for at in ahead[:1])])))
        said = turn.said(offset)
        phase = turn.known[-1][1] if turn.known else "armed"
        return {
            "events": said,
            "offset": offset + len(said),
            "phase": phase,
            "open": not turn.closed,
            "result": self._result(turn) if turn.closed else None,
            "instances": [],
        }

    def order_confirm(self, **_: Any) -> dict[str, Any]:
        turn = self.turn
        assert turn is not None
        turn.events += [(time.time(), "confirmed", ""), (time.time(), "closed", "")]
        turn.closed = True
        self._serve(turn.order["to"])
        return self._result(turn)

    def _serve(self, release: str) -> None:
        state, manifest = self.state, self.manifests[release]
        state.update(previous=state["current"], current=release, unit_sha256=manifest["unit_sha256"])
        state["drop_ins"] = self.drop_ins[release]
        state["instances"] = [_unit(item["name"], item["config"]) for item in manifest["instances"]]

    def _result(self, turn: Turn) -> dict[str, Any]:
        manifest = self.manifests[turn.order["to"]]
        version = manifest["engine_version"]
        gated = [{**_passed(item["name"], version), "start_s": self.pace.start_s} for item in manifest["instances"]]
        return {
            "run": turn.order["run"],
            "verdict": "accepted",
            "release": turn.order["to"],
            "before": turn.before,
            "to": turn.order["to"],
            "code": "",
            "what": "",
            "instance": "",
            "journal": [],
            "gate": gated,
            "failed_gate": [],
            "out_s": None,
            "start_s": self.pace.start_s,
            "back_s": None,
            "released": True,
            "at": time.time(),
        }

    def gate_wait(self, instances: list[dict[str, Any]], **_: Any) -> list[dict[str, Any]]:
        units = {unit["name"]: unit for unit in self.state["instances"]}
        found = [(item["name"], units[item["name"]]) for item in instances]
        return [{"name": name, "unit": unit, "failed": False, "ready": True, "journal": []} for name, unit in found]

    async def admission_check(self, instances: list[dict[str, Any]], **_: Any) -> list[dict[str, Any]]:
        await asyncio.sleep(self.pace.gate_s)
        return [_passed(item["name"], item["version"]) for item in instances]

    def shelf_collect(self, **_: Any) -> dict[str, Any]:
        return {"releases": [], "venvs": [], "models": [], "mib": 0}


def _unit(name: str, config: str) -> dict[str, Any]:
    running = {"active": "active", "sub": "running", "enabled": True, "result": "success", "pid": 7}
    return {"name": name, **running, "restarts": 0, "running_config": config, "invocation": "0" * 32, "job": False}


def _passed(name: str, version: str) -> dict[str, Any]:
    verdict = {"failure": "", "what": "", "text": TEXT, "version": version, "journal": []}
    return {"name": name, "unit": _unit(name, ""), **verdict}


@cache
def _lain_down(content: str, venv: str, model: str) -> tuple[str, dict[str, str]]:
    """Return the fingerprint of a release's directory and the digests of its drop-ins, as the code on a host does."""
    with tempfile.TemporaryDirectory() as place:
        release = Path(place)
        for path, item in json.loads(content).items():
            (release / path).parent.mkdir(parents=True, exist_ok=True)
            (release / path).write_text(item["text"])
            (release / path).chmod(item["mode"])
        (release / "venv").symlink_to(f"../../venvs/{venv}")
        (release / "model").symlink_to(f"../../models/{model}")
        found = release.glob(remote_state.DROP_INS)
        own = {remote_state.instance_of(str(path)): files.sha256(path) for path in found}
        return remote_state.fingerprint(release), own
