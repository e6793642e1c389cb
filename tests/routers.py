"""Routers for tests: hosts in front of which one stands, and the real HAProxy on this machine."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from rackhand.lab.shell import SYSTEM_PATH
from rackhand.remote import server_states
from rackhand.render import ROOT
from rackhand.routing.front import Front
from rackhand.routing.render import CONFIG, SERVERS, SOCKET, Rendered, render
from rackhand.routing.servers import Fronted, Server
from rackhand.settings import Settings

START_S = 10.0


def front(client: str | None = None, server: str | None = None, **wished: Any) -> Front:
    """Return what is wanted of a router; `client` and `server` are keys."""
    settings = Settings(model_name="router", model_path=".", **wished)
    keys = [SecretStr(each) if each else None for each in (client, server)]
    return Front(settings=settings, client_key=keys[0], server_key=keys[1])


def fronted(name: str = "gpu-1", *servers: Server, **changes: Any) -> Fronted:
    """Return a GPU host with one server of the model tiny, unless told otherwise."""
    address = f"10.0.0.{name[-1]}" if name[-1].isdigit() else "10.0.0.9"
    told = {"address": address, "listens": "0.0.0.0", "state_port": 9105, **changes}
    return Fronted(name=name, servers=servers or (server(),), **told)


def server(instance: str = "tiny-0", port: int = 8000, **changes: Any) -> Server:
    return Server(instance=instance, port=port, **{"model": "tiny", **changes})


def place(rendered: Rendered, root: Path) -> Path:
    """Put a router's files where this machine may have them; returns their directory."""
    folder = root / "router" / rendered.digest
    folder.mkdir(parents=True)
    for name, file in rendered.files.items():
        (folder / name).write_text(file.text.replace(ROOT, str(root)))
        (folder / name).chmod(file.mode)
    return folder


def accepted(config: Path, program: str = "haproxy") -> str:
    """Ask the real program whether it takes a configuration; returns what it says against it, empty for nothing."""
    tool = shutil.which(program, path=SYSTEM_PATH)
    assert tool, f"{program} is not installed"
    flags = ["-c", "-f"] if program == "haproxy" else ["-t", "-e", "stderr", "-c"]
    done = subprocess.run([tool, *flags, str(config)], capture_output=True, text=True, check=False, timeout=30)
    return done.stdout + done.stderr if done.returncode else ""


class Router:
    """The real HAProxy with a rendered configuration, in a directory instead of a host's root."""

    def __init__(self, root: Path) -> None:
        self.root, self.port = root, free_port()
        self.current = root / "router" / "current"
        self.socket = str(root / "admin.sock")
        self.process: subprocess.Popen[bytes] | None = None

    def render(
        self, hosts: Sequence[Fronted], client: str | None = None, server: str | None = None, **wished: Any
    ) -> None:
        """Point `current` to the configuration for these hosts."""
        told = {"router_bind": "127.0.0.1", "router_port": self.port, "router_stats_port": free_port(), **wished}
        folder = place(render(front(client, server, **told), hosts, "front", {}), self.root)
        text = (folder / CONFIG).read_text().replace(SOCKET, self.socket)
        # As its own user in a root of its own it would not get at the directories of tests.
        lines = [line for line in text.splitlines() if line.split()[:1] not in (["chroot"], ["user"], ["group"])]
        (folder / CONFIG).write_text("\n".join(lines) + "\n")
        self.current.unlink(missing_ok=True)
        self.current.symlink_to(folder.name)

    def start(self) -> None:
        self.save()
        command = [shutil.which("haproxy", path=SYSTEM_PATH) or "haproxy", "-Ws", "-f", str(self.current / CONFIG)]
        log = (self.root / "log").open("wb")
        self.process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "NOTIFY_SOCKET": ""})
        self.wait()

    def save(self) -> None:
        """Do what haproxy.service does before a start and a reload."""
        target = self.root / "router" / "servers.state"
        server_states.main(self.socket, str(self.current / SERVERS), str(target))

    def reload(self, save: bool = True) -> None:
        assert self.process is not None
        if save:
            self.save()
        before = self.pid()
        while self.pid() == before:  # a master that has just started does not hear the first signal
            self.process.send_signal(signal.SIGUSR2)
            self.wait()
            time.sleep(0.5)

    def wait(self) -> None:
        """Return once the process with the current configuration answers."""
        wanted, deadline = f"description: rackhand {self.current.readlink()}", time.monotonic() + START_S
        while wanted not in self.tells("show info"):
            assert time.monotonic() < deadline, (self.root / "log").read_text()
            time.sleep(0.02)

    def pid(self) -> str:
        """Return the process that answers now."""
        return next((line for line in self.tells("show info").splitlines() if line.startswith("Pid:")), "")

    def tells(self, command: str) -> str:
        try:
            return server_states.ask(self.socket, command)
        except OSError:
            return ""

    def states(self) -> dict[str, str]:
        """Return each server's state in HAProxy's words, such as UP, DRAIN or DOWN."""
        rows = [line.split(",") for line in self.tells("show stat").splitlines() if line.startswith("model_")]
        return {row[1]: row[17].split()[0] for row in rows if row[1] not in ("FRONTEND", "BACKEND")}

    def becomes(self, wanted: dict[str, str], within_s: float = 5.0) -> float:
        """Wait until the servers are in these states; return how many seconds that took."""
        begun = time.monotonic()
        while self.states() != wanted:
            assert time.monotonic() - begun < within_s, (self.states(), (self.root / "log").read_text()[-2000:])
            time.sleep(0.01)
        return time.monotonic() - begun

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(10)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
