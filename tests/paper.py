"""Hosts on paper: they answer calls as real ones do and change as real ones would, in no time."""

import copy
import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest
from pyinfra.api import Config, Host, Inventory, State
from pyinfra.api.connect import connect_all
from pyinfra.api.exceptions import PyinfraError
from pyinfra.api.operations import run_ops
from pyinfra.api.state import StateStage
from pyinfra.context import ctx_host, ctx_state

from rackhand import fleet_run, operations, run
from rackhand.errors import RackhandError
from rackhand.outcome import HostOutcome, RunOutcome
from rackhand.wishes import Wishes
from tests.ailments import well
from tests.surveys import DRIVER, VENV, answer, wishes

ROOT = Path(__file__).parent.parent
PACKAGES = ("nvidia-driver-cuda", "nvidia-kernel-open-dkms", "nvidia-modprobe", "nvidia-persistenced")


@dataclass
class PaperHost:
    """One host; `fails` maps functions of rackhand.remote to errors, `breaks` to exceptions that nobody foresaw.

    `says` is what its engines report of their memory. `turn_fails` (code and what) lets orders fail at the gate.
    `no_way_back` is why its driver cannot be stored, `stuck` why its modules cannot be exchanged, `down` are services
    that do not start again after that; `bootable` says that the next kernel has the driver. `ails` changes what the
    GPUs say of their health, one per GPU; `cuda` changes how CUDA starts.
    """

    cards: tuple[str, ...] = ("h100",)
    changes: Mapping[str, Any] = field(default_factory=dict)
    fails: dict[str, RackhandError] = field(default_factory=dict)
    breaks: dict[str, Exception] = field(default_factory=dict)
    name: str = ""
    commands: int = 0
    calls: list[str] = field(default_factory=list)
    ledger: list[dict[str, Any]] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    says: dict[str, Any] = field(default_factory=dict)
    turn_fails: dict[str, Any] = field(default_factory=dict)
    orders: list[dict[str, Any]] = field(default_factory=list)
    no_way_back: str = ""
    ails: list[dict[str, Any]] = field(default_factory=list)
    cuda: dict[str, Any] = field(default_factory=dict)
    stuck: str = ""
    down: list[str] = field(default_factory=list)
    lost: dict[str, str] = field(default_factory=dict)
    bootable: bool = True

    def __post_init__(self) -> None:
        self.facts = answer(self.cards, self.changes)
        self.nvml = copy.deepcopy(self.facts["nvml"])
        self.facts["shelf"] = []
        self.result: dict[str, Any] | None = None
        self.order: dict[str, Any] | None = None

    @classmethod
    def bare(cls, *cards: str) -> "PaperHost":
        """Return a host without a driver."""
        driver = {"loaded": None, "flavour": "", "library": None, "nouveau": False, "runfile": False}
        host = cls(cards=cards or ("h100",), changes={"driver": driver})
        host.facts["nvml"] = {"state": "no-library", "gpus": []}
        host.facts["setup"] = {}
        return host

    def call(self, function: str, within_s: int = 120, **args: Any) -> Any:
        self.commands += 1
        self.calls.append(function)
        if function in self.fails or function in self.breaks:
            raise self.fails.get(function) or self.breaks[function]
        does: Callable[..., Any] | None = getattr(self, function.replace(".", "_"), None)
        return does(**args) if does else None

    def put(self, source: Path, destination: str) -> None:
        self.commands += 1
        self.files.append(destination)

    def reboot(self, timeout_s: int) -> None:
        self.calls.append("reboot")
        self._load()

    def _load(self) -> None:
        self.facts["driver"]["loaded"] = self.facts["driver"]["library"]
        self.facts["nvml"] = self.nvml

    def loses(self, slot: int) -> None:
        """Let a card fall off the bus."""
        del self.facts["pci"][slot]
        del self.facts["nvml"]["gpus"][slot]

    def reconnect(self) -> bool:
        self.calls.append("reconnect")
        return True

    @property
    def changing(self) -> list[str]:
        """The calls that change a host, in order."""
        asking = (
            "survey.survey",
            "health.look",
            "gate.wait",
            "admission.check",
            "command.progress",
            "files.record",
            "order.watch",
            "shelf.collect",
        )
        return [call for call in self.calls if call not in asking and not call.startswith("lease.")]

    def survey_survey(self, **_: Any) -> dict[str, Any]:
        facts = copy.deepcopy(self.facts)
        for record in facts["state"]["measured"]:
            record["running"] = record["release"] == facts["state"]["current"]
        return facts

    def health_look(self, **_: Any) -> dict[str, Any]:
        seen = well(copy.deepcopy(self.facts))
        for gpu, ails in zip(seen["nvml"]["gpus"], self.ails, strict=False):
            gpu.update(ails)
        seen["cuda"].update(self.cuda)
        return seen

    def account_prepare(self, packages: list[str], **_: Any) -> None:
        self.facts["state"]["user"] = True
        self.facts["packages"]["installed"].update(dict.fromkeys(packages, "1"))

    def program_install(self, digest: str, units: dict[str, str], **_: Any) -> None:
        digests = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in units.items()}
        self.facts["state"]["program"] = {"digest": digest, "units": digests}

    def driver_stage(self, wish: dict[str, Any], **_: Any) -> dict[str, str]:
        name = f"{wish['version']}-set"
        known = self.facts.setdefault("driver_sets", {"sets": {}})
        known["sets"][name] = {"version": wish["version"], "packages": wish["needs"]}
        return {"set": name, "here": "", "why": self.no_way_back}

    def driver_put(self, packages: list[str], version: str, **_: Any) -> list[str]:
        self.facts["packages"]["installed"].update(dict.fromkeys(packages, f"{version}-1"))
        self.facts["packages"]["held"] = list(packages)
        self.facts["driver_sets"].update(current=f"{version}-set", installed=f"{version}-set")
        self.facts["driver"]["library"] = version
        return list(packages)

    def driver_load_renew(self, **_: Any) -> dict[str, Any]:
        if not self.stuck:
            self._load()
        return {"why": self.stuck, "down": self.down, "lost": self.lost}

    def driver_boot_ready(self, version: str, **_: Any) -> dict[str, str]:
        return {"release": "6.1.0", "module": version if self.bootable else ""}

    def gpu_setup_configure(self, services: list[str], modules: list[str], **_: Any) -> None:
        runs = {"there": True, "enabled": True, "active": True}
        self.facts["setup"].update(services=dict.fromkeys(services, runs), persistence=True, modules=modules)

    def weights_open_incoming(self, model: str, wanted: list[dict[str, Any]], **_: Any) -> dict[str, Any]:
        return {"place": f"/incoming/{model}", "missing": [item["path"] for item in wanted]}

    def venv_accept_uv(self, **_: Any) -> None:
        self.facts["state"]["uv"] = True

    def venv_build(self, digest: str, **_: Any) -> dict[str, Any]:
        record = {"digest": digest, "vllm": "0.33.0", "seconds": 1.0}
        self.facts["state"]["venv"] = record
        return record

    def weights_accept(self, wanted: list[dict[str, Any]], **_: Any) -> None:
        self.facts["state"].update(model={"files": wanted}, model_intact=True)

    def release_place(self, release: str, content: dict[str, Any], **_: Any) -> dict[str, Any]:
        manifest = json.loads(content["manifest.json"]["text"])
        rendered = run_of(self).release
        assert rendered is not None
        self.facts["state"]["releases"][release] = rendered.fingerprint
        others = [each for each in self.facts["shelf"] if each["id"] != release]
        self.facts["shelf"] = [*others, {**manifest, "drop_ins": dict(rendered.drop_ins)}]
        return {}

    def order_begin(self, order: dict[str, Any], **_: Any) -> dict[str, Any]:
        self.order, self.result = order, None
        self.orders.append(order)
        if order["kind"] == "hold":
            for unit in self.facts["state"]["instances"]:
                unit["active"] = "inactive"
        return {"now": time.time(), "back": self.facts["state"]["current"]}

    def order_watch(self, **_: Any) -> dict[str, Any]:
        assert self.order is not None
        seen: dict[str, Any] = {"offset": 1, "open": True, "result": None, "instances": [], "events": []}
        if self.order["kind"] == "hold":
            return {**seen, "phase": "held", "events": [self._event("held")]}
        if self.turn_fails:
            self._end(self._undone(self.turn_fails))
            return {**seen, "phase": "closed", "open": False, "result": self.result, "events": [self._event("failed")]}
        return {**seen, "phase": "accepted", "events": [self._event("accepted")]}

    def order_confirm(self, **_: Any) -> dict[str, Any]:
        assert self.order is not None
        self._end(self._accepted(self.order))
        return dict(self.result or {})

    def order_abort(self, code: str, what: str, **_: Any) -> None:
        self.turn_fails = {"code": code, "what": what}
        if self.order:
            self.order = {**self.order, "kind": "switch"}

    def _event(self, phase: str) -> dict[str, Any]:
        return {"at": time.time(), "phase": phase, "instance": "", "detail": ""}

    def _end(self, result: dict[str, Any]) -> None:
        self.result, self.order = result, None

    def _accepted(self, order: dict[str, Any]) -> dict[str, Any]:
        state, before = self.facts["state"], self.facts["state"]["current"]
        wanted = self._release(order["to"])
        running = {unit["name"]: unit["running_config"] for unit in state["instances"] if unit["active"] == "active"}
        started = [
            each["name"]
            for each in wanted["instances"]
            if running.get(each["name"]) != each["config"] or each["name"] in order["start"]
        ]
        if before != order["to"]:
            state["previous"] = before
        state.update(current=order["to"], unit_sha256=wanted["unit_sha256"], drop_ins=wanted["drop_ins"])
        state["instances"] = [_unit(each["name"], each["config"]) for each in wanted["instances"]]
        verdicts = self.admission_check([{"name": each["name"], "report": True} for each in wanted["instances"]])
        gate = [{**each, "start_s": 9.5 if each["name"] in started else None} for each in verdicts]
        return {**self._result(order["to"], before), "verdict": "accepted", "gate": gate}

    def _undone(self, why: dict[str, Any]) -> dict[str, Any]:
        before = self.facts["state"]["current"]
        for unit in self.facts["state"]["instances"]:
            unit["active"] = "active"
        names = [each["name"] for each in self._release(before)["instances"]] if before else []
        gate = [
            {**each, "start_s": 9.5} for each in self.admission_check([{"name": n, "report": False} for n in names])
        ]
        return {**self._result(before, before), **why, "verdict": "restored" if before else "stopped", "gate": gate}

    def _result(self, release: str, before: str) -> dict[str, Any]:
        nothing = {"code": "", "what": "", "instance": "", "journal": [], "gate": [], "failed_gate": []}
        times = {"out_s": 9.5 if before else None, "start_s": 9.5, "back_s": None, "cut_off": None}
        return {**nothing, **times, "release": release, "before": before, "to": (self.orders[-1])["to"]}

    def _release(self, name: str) -> dict[str, Any]:
        return next(each for each in self.facts["shelf"] if each["id"] == name)

    def gate_wait(self, instances: list[dict[str, Any]], **_: Any) -> list[dict[str, Any]]:
        units = {unit["name"]: unit for unit in self.facts["state"]["instances"]}
        return [
            {"name": item["name"], "unit": units[item["name"]], "failed": False, "ready": True, "journal": []}
            for item in instances
        ]

    def admission_check(self, instances: list[dict[str, Any]], **_: Any) -> list[dict[str, Any]]:
        verdict = {"failure": "", "what": "", "text": "one two three four five", "version": "0.33.0", "journal": []}
        return [
            {"name": item["name"], "unit": {}, **verdict, **({"reported": dict(self.says)} if item["report"] else {})}
            for item in instances
        ]

    def measured_keep(self, release: str, instances: list[dict[str, Any]], **_: Any) -> None:
        state, names = self.facts["state"], {item["name"] for item in instances}
        kept = [old for old in state["measured"] if (old["release"], old["name"]) not in {(release, n) for n in names}]
        here = [{**item, "release": release} for item in json.loads(json.dumps(instances))]
        state["measured"] = [*here, *kept]

    def shelf_collect(self, **_: Any) -> dict[str, Any]:
        return {"releases": [], "venvs": [], "models": [], "mib": 0}

    def files_record(self, entry: dict[str, Any], **_: Any) -> None:
        self.ledger.append(entry)


def _unit(name: str, config: str) -> dict[str, Any]:
    return {
        "name": name,
        "active": "active",
        "sub": "running",
        "enabled": True,
        "restarts": 0,
        "result": "success",
        "pid": 7,
        "running_config": config,
    }


def run_of(host: PaperHost) -> run.HostRun:
    return operations.current_run().hosts[host.name]


@dataclass(frozen=True, kw_only=True)
class Result:
    """What came of a deploy: the exit status that this run asks for (None: pyinfra's own), and everything it said."""

    outcome: RunOutcome
    status: int | None
    said: str
    titles: tuple[str, ...]

    def host(self, name: str) -> HostOutcome:
        return next(host for host in self.outcome.hosts if host.name == f"@fake/{name}")


class Deploy:
    """Runs deploy.py as pyinfra does: every host is prepared, then all steps on all hosts."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        self.monkeypatch = monkeypatch
        self.reports = tmp_path / "reports"
        self.silent: tuple[str, ...] = ()
        self.routers: tuple[str, ...] = ()
        self.data: dict[str, Any] = {}
        monkeypatch.setattr("rackhand.fleet_run.atexit.register", lambda *_: None)
        monkeypatch.setattr("rackhand.fleet_run.signal.signal", lambda *_: None)

    def __call__(self, hosts: Mapping[str, PaperHost], *argv: str, **wished: Any) -> Result:
        said: list[str] = []
        self.monkeypatch.setattr(sys, "argv", ["pyinfra", "inventory/prod.py", "deploy.py", *argv])
        self.monkeypatch.setattr("rackhand.operations.click.echo", lambda text, **_: said.append(text))
        self.monkeypatch.setattr(operations, "Session", lambda host: self._session(hosts, host))
        self.monkeypatch.setattr("rackhand.operations.wishes.resolve", lambda *_: self._wishes(**wished))
        operations.current_run.cache_clear()
        routers = [f"@fake/{name}" for name in self.routers]
        state = paper_state(
            [f"@fake/{name}" for name in hosts], routers, {"report_dir": str(self.reports), **self.data}
        )
        for name in self.silent:
            state.active_hosts.remove(state.inventory.get_host(f"@fake/{name}"))
        with ctx_state.use(state):
            self._run(state, dry="--dry" in argv)
            ending = operations.current_run()
            status = self._finish(ending)
        titles = tuple(name for op in _order(state) for name in state.get_op_meta(op).names)
        return Result(outcome=ending.outcome(), status=status, said="\n".join(said), titles=titles)

    def _session(self, hosts: Mapping[str, PaperHost], host: Host) -> PaperHost:
        paper = hosts[host.name.removeprefix("@fake/")]
        paper.name, paper.commands = host.name, 0
        paper.calls.clear()
        return paper

    def _wishes(self, **wished: Any) -> Wishes:
        return wishes(**{"driver_version": DRIVER, "key": "canary", "report_dir": str(self.reports), **wished})

    def _run(self, state: State, dry: bool) -> None:
        code = compile((ROOT / "deploy.py").read_text(), "deploy.py", "exec")
        state.set_stage(StateStage.Prepare)
        try:
            for host in list(state.active_hosts):
                with ctx_host.use(host):
                    exec(code, {"__file__": "deploy.py"})
            if not dry:
                state.set_stage(StateStage.Execute)
                run_ops(state)
        except PyinfraError as error:
            operations.current_run().write(str(error))

    def _finish(self, ending: fleet_run.Run) -> int | None:
        with _exits(self.monkeypatch) as statuses:
            ending.finish()
        return statuses[0] if statuses else None


def _order(state: State) -> list[str]:
    untyped: Any = state
    return list(untyped.get_op_order())


def paper_state(names: list[str], routers: Sequence[str] = (), more: Mapping[str, Any] | None = None) -> State:
    """Return pyinfra's state for hosts that are connected and do nothing."""
    inventory, config = cast(Any, Inventory), cast(Any, Config)
    data = {"fake_delay": 0, "fake_delay_jitter": 0, **(more or {})}
    state = State(inventory((names, data), **({"routers": (list(routers), {})} if routers else {})), config())
    state.set_stage(StateStage.Connect)
    with ctx_state.use(state):
        connect_all(state)
    return state


@contextmanager
def _exits(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    statuses: list[int] = []
    with monkeypatch.context() as patch:
        patch.setattr(os, "_exit", statuses.append)
        yield statuses


__all__ = ["PACKAGES", "VENV", "Deploy", "PaperHost", "Result", "paper_state"]
