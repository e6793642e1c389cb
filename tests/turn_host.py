"""A host in a directory: systemd, engines, clock and power are played, so that whole orders run in milliseconds.

It can be killed right before any of its effects: a systemctl call, or a file that is written, renamed, linked, removed.
"""

import io
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rackhand.remote import (
    absence,
    drain,
    files,
    freed,
    gate,
    order,
    readiness,
    release,
    startup,
    state,
    turn,
    turn_back,
    turn_driver,
    turn_files,
    turn_log,
    turn_result,
    units,
)  # fmt: skip

CLOCKED = (
    absence,
    drain,
    files,
    freed,
    gate,
    order,
    readiness,
    state,
    turn,
    turn_back,
    turn_files,
    turn_log,
    turn_result,
    units,
)
MODEL = "tiny"
MEMORY = Path("/dev/shm")  # Linux; see tmpfs(5)
START_S, STOP_S = 3.0, 0.5
REBOOT_S = 20.0
CHANGING = ("enable", "restart", "start", "stop", "daemon-reload", "kill")
BEGUN = {"at_once": 1, "confirm_s": 30, "hold_s": 0, "stop_timeout_s": 60, "start": [], "fatal": ["hopeless"]}
BEGUN |= {"drain": {"timeout_s": 20, "on_timeout": "stop"}, "gate": {"request_timeout_s": 5, "start_timeout_s": 60}}
BEGUN |= {"schema": "rackhand.order/1", "purpose": "deploy", "user": "vllm", "kind": "switch"}


class Killed(BaseException):
    """The program is gone: SIGKILL, or the power."""


@dataclass
class Engine:
    """One vllm@ unit; `text` is the unit file that its process was started by."""

    active: str = "inactive"
    config: str = ""
    text: str = ""
    pid: int = 0
    starts: int = 0
    ready_at: float = 0.0
    tokens: int = 0
    requests: int = 0


@dataclass
class TurnHost:
    """The host. `breaks` maps a release to what is wrong with its engines: dies, hangs, mute."""

    place: Path
    breaks: dict[str, str] = field(default_factory=dict)
    confirms: bool = True
    listens: bool = True
    engines: dict[str, Engine] = field(default_factory=dict)
    started: bool = False
    now: float = field(default_factory=time.time)
    kill_at: int = -1
    effects: int = 0
    counts: bool = False
    full: bool = False
    on_tick: Callable[["TurnHost"], None] = lambda _: None
    on_driver: Callable[["TurnHost"], None] = lambda _: None
    on_kill: Callable[["TurnHost"], None] = lambda _: None
    killed_before: str = ""
    loaded: str = ""
    asked: list[str] = field(default_factory=list)

    @property
    def root(self) -> Path:
        return self.place / "opt"

    @property
    def wants(self) -> Path:
        return self.place / "systemd" / "multi-user.target.wants"

    @property
    def run(self) -> Path:
        return self.place / "run"

    # --- releases ---------------------------------------------------------------------------------------------------

    def has(self, name: str, *gpus: list[str], names: tuple[str, ...] = (), **more: Any) -> None:
        """Put a release there, an instance for each list of GPUs; its unit file has its name in it."""
        place = self.root / "releases" / name
        (place / "instances").mkdir(parents=True)
        listed = []
        for number, uuids in enumerate(gpus):
            instance = names[number] if names else f"{MODEL}-{number}"
            after = more.get("starts_after", {}).get(instance)
            item = {"name": instance, "port": 8000 + number, "gpus": uuids, "config": f"{name}-{instance}"}
            listed.append({**item, "max_model_len": None, "starts_after": after})
            (place / "instances" / f"{instance}.env").write_text(f"{name}-{instance}")
        manifest = {"venv": "venv", "served_name": MODEL, "engine_version": "1", "instances": listed}
        (place / "manifest.json").write_text(json.dumps({**manifest, "start_timeout_s": 30, "host": "127.0.0.1"}))
        (place / state.UNIT.name).write_text(f"unit of {name}")

    def serves(self, name: str, verdict: str = "passed") -> None:
        """Let a release be the current one, proven and running."""
        (self.root / "current").symlink_to(f"releases/{name}")
        if verdict:
            (self.root / "releases" / name / state.VERDICT).write_text(json.dumps({"verdict": verdict}))
        (self.place / "systemd" / state.UNIT.name).write_text(f"unit of {name}")
        self.loaded = f"unit of {name}"
        for item in self.manifest(name)["instances"]:
            self._enable(f"vllm@{item['name']}.service")
            self._start(item["name"])
            self.engines[item["name"]].ready_at = 0.0

    def manifest(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.root / "releases" / name / "manifest.json").read_text())
        return found

    def link(self, name: str) -> str:
        path = self.root / name
        return path.readlink().name if path.is_symlink() else ""

    # --- systemd ----------------------------------------------------------------------------------------------------

    def systemctl(self, command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        program, verb, words = command[0], command[1], [word for word in command[2:] if not word.startswith("--")]
        said, status = "", 0
        if program == "systemctl" and verb in CHANGING:
            self.effect(" ".join(command))
            self.asked.append(" ".join([verb, *words]))
            getattr(self, f"_{verb.replace('-', '_')}")(*words)
        elif program == "systemctl" and verb == "show":
            said = self._shown(words[0])
        elif program == "systemctl" and verb == "list-units":
            said = "\n".join(f"vllm@{name}.service loaded" for name in self.engines)
        elif program == "systemctl" and verb == "is-active":
            said, status = ("active", 0) if self.started else ("inactive", 3)
        return subprocess.CompletedProcess(command, status, said, "")

    def _shown(self, unit: str) -> str:
        engine = self.engines.get(_instance(unit), Engine())
        self._settle(engine)
        shown = {"ActiveState": engine.active, "SubState": engine.active, "MainPID": engine.pid, "NRestarts": 0}
        shown |= {"InvocationID": f"{unit}-{engine.starts}" if engine.starts else "", "Result": "exit-code", "Job": 0}
        return "\n".join(f"{name}={value}" for name, value in shown.items())

    def _settle(self, engine: Engine) -> None:
        """Let an engine that dies at its start be dead."""
        if engine.active == "active" and self._fault(engine) == "dies" and self.now > engine.ready_at - 1:
            engine.active, engine.pid = "failed", 0

    def _fault(self, engine: Engine) -> str:
        name = engine.config.partition("-")[0]
        return self.breaks.get(name, "") if engine.ready_at else ""

    def _enable(self, *names: str) -> None:
        for name in names:
            link = self.wants / name
            if not link.is_symlink():
                link.symlink_to("/unit")

    def _restart(self, *names: str) -> None:
        for name in names:
            self._start(_instance(name))

    def _start(self, *names: str) -> None:
        for name in names:
            if name == state.PROGRAM:
                self.started = True
                continue
            if name == turn_driver.UNIT:
                self._have_the_driver_put_back()
                continue
            engine = self.engines.setdefault(name, Engine())
            file = self.root / "current" / "instances" / f"{name}.env"
            engine.starts += 1
            engine.active, engine.pid, engine.config = ("failed", 0, "")
            if file.exists():
                engine.active, engine.pid, engine.config = "active", 1000 + engine.starts, file.read_text()
                engine.text, engine.ready_at = self.loaded, self.now + START_S

    def _have_the_driver_put_back(self) -> None:
        """Let the unit do it, which is another program: what it does is no deed of this one."""
        counts, self.counts = self.counts, False
        self.on_driver(self)
        self.counts = counts

    def _stop(self, *names: str) -> None:
        self.now += STOP_S
        for name in names:
            engine = self.engines.setdefault(_instance(name), Engine())
            engine.active, engine.pid, engine.config, engine.requests = "inactive", 0, "", 0

    def _daemon_reload(self) -> None:
        file = self.place / "systemd" / state.UNIT.name
        self.loaded = file.read_text() if file.exists() else ""

    def _kill(self, *words: str) -> None:
        if state.PROGRAM in words:
            self.started = False

    def variable(self, pid: int, name: str) -> str:
        engine = next((each for each in self.engines.values() if pid and each.pid == pid), Engine())
        return engine.config if name == state.CONFIG_VARIABLE else ""

    # --- engines ----------------------------------------------------------------------------------------------------

    def get(self, instance: dict[str, Any], path: str, timeout_s: float, body: Any = None) -> tuple[int, str]:
        """Answer as whatever engine listens on the port."""
        engine = next(
            (each for name, each in self.engines.items() if self._listens(name, each, instance["port"])), None
        )
        if engine is None or self.now < engine.ready_at or self._fault(engine) in ("hangs", "dies"):
            return 0, "connection refused"
        if path == "/health":
            return 200, ""
        if path == "/metrics":
            running = f'vllm:num_requests_running{{model_name="{MODEL}"}} {engine.requests}.0'
            return 200, f'{running}\nvllm:generation_tokens_total{{model_name="{MODEL}"}} {engine.tokens}.0\n'
        return 200, json.dumps(self._answer(engine, path))

    def _answer(self, engine: Engine, path: str) -> dict[str, Any]:
        if path == "/version":
            return {"version": "1"}
        if path == "/v1/models":
            return {"data": [{"id": MODEL, "max_model_len": 1}]}
        if self._fault(engine) == "mute":
            return {"usage": {"completion_tokens": 0}, "choices": [{"text": "", "finish_reason": "stop"}]}
        engine.tokens += 5
        return {"usage": {"completion_tokens": 5}, "choices": [{"text": "hum", "finish_reason": "length"}]}

    def _listens(self, name: str, engine: Engine, port: int) -> bool:
        self._settle(engine)
        release_id = engine.config.partition("-")[0]
        if engine.active != "active" or not release_id:
            return False
        return any(item["port"] == port for item in self.manifest(release_id)["instances"] if item["name"] == name)

    # --- the program, and its end -----------------------------------------------------------------------------------

    def effect(self, what: str) -> None:
        """Count a deed of the program; die before the one that was chosen."""
        if not self.counts:
            return
        if self.effects == self.kill_at:
            self.counts, self.kill_at, self.killed_before = False, -1, what
            self.on_kill(self)
            raise Killed(what)
        self.effects += 1

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        counts, self.counts = self.counts, False
        heard = self.root / turn_files.HEARD
        if self.listens and heard.exists():
            os.utime(heard, (self.now, self.now))
        if self.confirms and self.phases()[-1:] == ["accepted"]:
            (self.root / turn_files.CONFIRMED).write_text(self.order()["run"])
        self.on_tick(self)
        self.counts = counts

    def begins(self, to: str, run: str = "r1", **more: Any) -> dict[str, Any]:
        return order.begin(str(self.root), {**BEGUN, "run": run, "to": to, **more})

    def works(self) -> Killed | None:
        """Let the program do what it is there for; return what ended it before its time."""
        self.started = self.counts = True
        try:
            turn.work(self.root)
        except Killed as killed:
            return killed
        finally:
            self.started = self.counts = False
        return None

    def renew(self) -> None:
        """Be another host in the same place."""
        shutil.rmtree(self.place, ignore_errors=True)
        self.__init__(place=self.place, now=self.now)  # type: ignore[misc]
        lay_out(self)

    def boots(self) -> None:
        """Lose all that is not on the disk, and start what is enabled."""
        shutil.rmtree(self.run)
        self.run.mkdir()
        self.engines, self.now = {}, self.now + REBOOT_S
        self._daemon_reload()
        for link in self.wants.glob("vllm@*.service"):
            self._start(_instance(link.name))
        self.started = (self.wants / state.PROGRAM).is_symlink()

    # --- what came of it --------------------------------------------------------------------------------------------

    def order(self) -> dict[str, Any]:
        return state.read_json(self.root / state.ORDER)

    def phases(self) -> list[str]:
        return [event["phase"] for event in turn_files.events(self.root, 0)[0]]

    def result(self, run: str = "r1") -> dict[str, Any]:
        found = turn_files.result(self.root, run)
        assert found is not None
        return found

    def ledger(self) -> list[dict[str, Any]]:
        lines = (self.root / "ledger.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines if '"order"' in line]

    def enabled(self) -> set[str]:
        return {_instance(path.name) for path in self.wants.glob("vllm@*.service")}

    def running(self) -> dict[str, str]:
        """Return the configuration of every engine that runs."""
        for engine in self.engines.values():
            self._settle(engine)
        return {name: engine.config for name, engine in self.engines.items() if engine.active == "active"}

    def in_service(self) -> set[str]:
        """Name the instances that routers would send requests to, and that answer."""
        ports = {item["name"]: item["port"] for name in self.releases() for item in self.manifest(name)["instances"]}
        ready = {name for name in self.running() if drain.said(name) == drain.READY}
        return {name for name in ready if self.get({"port": ports[name]}, "/health", 1)[0] == 200}

    def releases(self) -> Iterator[str]:
        for path in sorted((self.root / "releases").glob("[!.]*")):
            if path.name != self.link("current"):
                yield path.name
        if self.link("current"):
            yield self.link("current")


def _instance(unit: str) -> str:
    return unit.removeprefix("vllm@").removesuffix(".service")


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[TurnHost]:
    """A host with its program and nothing else, in memory where that can be: on a disk every deed waits for it."""
    memory = MEMORY if os.access(MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory, prefix="rackhand-") as place:
        host = TurnHost(place=Path(place) / "host")
        _play(host, monkeypatch)
        lay_out(host)
        yield host


def lay_out(host: TurnHost) -> None:
    """Make an empty host that has its program."""
    for path in (host.root / "releases", host.root / "program", host.wants, host.run):
        path.mkdir(parents=True)
    (host.root / "program" / "one.pyz").touch()
    (host.root / state.PROGRAM_LINK).symlink_to("one.pyz")


def _play(host: TurnHost, patch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(
        time=lambda: host.now, monotonic=lambda: host.now, sleep=host.sleep, strftime=time.strftime, gmtime=time.gmtime
    )
    for module in CLOCKED:
        if hasattr(module, "time"):
            patch.setattr(module, "time", clock)
    unit = host.place / "systemd" / "vllm@.service"
    for module in (state, release):
        patch.setattr(module, "UNIT", unit)
    patch.setattr(state, "WANTS", host.wants)
    patch.setattr(drain, "RUN", host.run)
    patch.setattr(drain, "TOLD", host.run / "told")
    patch.setattr(turn_files, "RUN", host.run)
    patch.setattr(turn_files, "RESERVE_BYTES", 8)
    patch.setattr(freed, "CGROUPS", host.place / "cgroup")
    patch.setattr(freed.Exit, "_prepare", lambda _: None)
    patch.setattr(startup, "read", lambda *_: {})
    patch.setattr(gate, "get", host.get)
    patch.setattr(state, "variable", host.variable)
    patch.setattr(subprocess, "run", host.systemctl)
    patch.setattr(os, "fsync", lambda _: None)
    _watch(host, patch)


def _watch(host: TurnHost, patch: pytest.MonkeyPatch) -> None:
    """Have every change of a file pass by the host before it happens."""

    def passing(name: str, real: Callable[..., Any], writes: Callable[..., bool]) -> Callable[..., Any]:
        def through(path: Any, *arguments: Any, **more: Any) -> Any:
            if host.counts and writes(path, *arguments, **more):
                host.effect(f"{name} {path} {arguments[:1]}")
                if host.full and name in ("io.open", "os.open") and "run/" not in str(path):
                    raise OSError(28, "No space left on device", str(path))
            return real(path, *arguments, **more)

        return through

    patch.setattr(os, "mkdir", passing("os.mkdir", os.mkdir, lambda path, *_, **__: not os.path.lexists(path)))
    patch.setattr(os, "unlink", passing("os.unlink", os.unlink, lambda path, *_, **__: os.path.lexists(path)))
    for name in ("replace", "symlink"):
        patch.setattr(os, name, passing(f"os.{name}", getattr(os, name), lambda *_, **__: True))
    patch.setattr(os, "open", passing("os.open", os.open, lambda _, flags=0, *__, **___: bool(flags & os.O_WRONLY)))
    patch.setattr(io, "open", passing("io.open", io.open, lambda _, mode="r", *__, **___: mode not in ("r", "rb")))
