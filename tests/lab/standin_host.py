"""A directory that plays the host of a stand-in engine, for tests without a practice fleet."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from rackhand.lab import tiny_model, wheels
from rackhand.lab.standin_wheel import standin_wheel

VERSION = "0.32.0"
READY_S = 10.0
CARD = "GPU-00000000-0000-0000-0000-000000000001"
PARSER = """
import sys
from vllm.entrypoints.cli.serve import cmd_init
from vllm.utils.argparse_utils import FlexibleArgumentParser
parser = FlexibleArgumentParser(prog="vllm")
commands = parser.add_subparsers(required=True, dest="subparser")
for command in cmd_init():
    command.subparser_init(commands)
parser.parse_args(["serve", "--config", sys.argv[1]])
"""


class Host:
    """A directory that plays the host: the installed wheel, a config file, a fault file, running engines."""

    def __init__(self, place: Path, installed: Path) -> None:
        self.place = place
        self.installed = installed
        self.port = _free_port()
        self.engines: list[subprocess.Popen[str]] = []
        self.model = tiny_model.build(place / "tiny")
        self.options: dict[str, str] = {
            "model": str(self.model),
            "served-model-name": "tiny",
            "host": "127.0.0.1",
            "port": str(self.port),
            "max-model-len": "256",
            "shutdown-timeout": "30",
        }

    def breaks(self, *faults: str) -> None:
        (self.place / "faults").write_text("".join(f"fault {fault}\n" for fault in faults))

    def parses(self) -> int:
        """Run vLLM's own parser over the config, as a check before a switch would; return the exit status."""
        command = [sys.executable, "-c", PARSER, str(self.config())]
        return subprocess.run(command, env={**os.environ, "PYTHONPATH": str(self.installed)}, check=False).returncode

    def config(self) -> Path:
        config = self.place / "tiny.yaml"
        config.write_text("".join(f"{name}: {value}\n" for name, value in self.options.items()))
        return config

    def starts(self, *words: str, key: str = "") -> subprocess.Popen[str]:
        config = self.config()
        environment = {
            **os.environ,
            "PYTHONPATH": str(self.installed),
            "VLLM_STANDIN_FAULTS": str(self.place / "faults"),
            "VLLM_STANDIN_HARDWARE": str(self.place / "hardware"),
            "CUDA_VISIBLE_DEVICES": CARD,
            **({"VLLM_API_KEY": key} if key else {}),
        }
        command = [sys.executable, "-m", "vllm.cli", "serve", *(words or ["--config", str(config)])]
        with (self.place / "journal").open("w") as journal:
            engine = subprocess.Popen(command, env=environment, stdout=journal, stderr=journal, text=True)
        self.engines.append(engine)
        return engine

    def serves(self, *words: str, key: str = "") -> subprocess.Popen[str]:
        engine = self.starts(*words, key=key)
        deadline = time.monotonic() + READY_S
        while self.asks("/health")[0] == 0:
            assert engine.poll() is None, self.journal()
            assert time.monotonic() < deadline, self.journal()
            time.sleep(0.02)
        return engine

    def asks(self, path: str, body: object = None, key: str = "", timeout_s: float = 5.0) -> tuple[int, str]:
        headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data=data, headers=headers)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=timeout_s) as answer:
                return answer.status, answer.read().decode(errors="replace")
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def completes(self, timeout_s: float = 5.0, **more: object) -> tuple[int, str]:
        body = {"model": "tiny", "prompt": "Hello there", "max_tokens": 5, "ignore_eos": True, **more}
        return self.asks("/v1/completions", body, timeout_s=timeout_s)

    def counts(self, metric: str) -> float:
        rows = [line for line in self.asks("/metrics")[1].splitlines() if line.startswith(metric + "{")]
        return float(rows[0].rsplit(" ", 1)[1])

    def journal(self) -> str:
        return (self.place / "journal").read_text()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the built wheel itself, not the sources: what is missing in the wheel must be missed here."""
    place = tmp_path_factory.mktemp("standin")
    wheels.build(place / "wheels")
    wheel = place / "wheels" / standin_wheel(VERSION).filename
    install = [sys.executable, "-m", "uv", "pip", "install", "-q", "--no-deps", "--offline"]
    subprocess.run([*install, "--target", str(place / "site"), str(wheel)], check=True)
    return place / "site"


@pytest.fixture
def host(tmp_path: Path, installed: Path) -> Iterator[Host]:
    host = Host(tmp_path, installed)
    yield host
    for engine in host.engines:
        engine.kill()
        engine.wait()
