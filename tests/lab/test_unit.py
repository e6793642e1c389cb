"""The hardened unit under a real systemd, with the stand-in engine in it."""

import io
import json
import re
import time
import zipfile
from collections.abc import Callable, Iterator

import pytest

from rackhand.lab import tiny_model
from rackhand.lab.fleet import Fleet
from rackhand.lab.host import LabHost
from rackhand.lab.standin_wheel import standin_wheel
from tests.test_unit_template import EXPOSURE_LIMIT, rendered, unit

pytestmark = pytest.mark.lab

ROOT = "/opt/rackhand"
PORT = 8000
ODD = "a \"b\" \\ $HOME ${X} `x` 's' %i # ;\nsecond line\tschlüssel ☃"
VLLM = f'#!/bin/sh\nPYTHONPATH={ROOT}/standin exec python3 -m vllm.cli "$@"\n'
OPTIONS = {"model": f"{ROOT}/models/tiny", "served-model-name": "tiny", "host": "127.0.0.1", "port": PORT}
IMPATIENT = "[Service]\nTimeoutStopSec=2\nRestartSec=1\n"


class Served:
    """A host with one instance, `vllm@tiny`."""

    def __init__(self, host: LabHost) -> None:
        self.host = host

    def does(self, command: str) -> str:
        done = self.host.run(["sh", "-c", command])
        return done.stdout + done.stderr

    def property(self, name: str) -> str:
        return self.does(f"systemctl show --value --property {name} vllm@tiny").strip()

    def becomes(self, holds: Callable[[], bool], timeout_s: float = 15) -> bool:
        deadline = time.monotonic() + timeout_s
        while not holds() and time.monotonic() < deadline:
            time.sleep(0.1)
        return holds()

    def healthy(self) -> bool:
        return self.does(f"curl -s -o /dev/null -w '%{{http_code}}' http://127.0.0.1:{PORT}/health").strip() == "200"

    def starts(self, *faults: str) -> None:
        self.host.write("/etc/rackhand-lab/standin.conf", "".join(f"fault {fault}\n" for fault in faults))
        self.does("systemctl reset-failed vllm@tiny; systemctl restart --no-block vllm@tiny")

    def serves(self, *faults: str) -> None:
        self.starts(*faults)
        assert self.becomes(self.healthy), self.does("journalctl -u vllm@tiny -o cat -n 20")


@pytest.fixture(scope="module")
def served(fleet: Fleet) -> Iterator[Served]:
    host = fleet.up("unit")
    host.wait_ssh()
    _place(host)
    yield Served(host)
    fleet.remove("unit")


def _place(host: LabHost) -> None:
    with zipfile.ZipFile(io.BytesIO(standin_wheel("0.32.0").to_bytes())) as wheel:
        for name in wheel.namelist():
            host.write(f"{ROOT}/standin/{name}", wheel.read(name).decode())
    host.write(f"{ROOT}/current/venv/bin/vllm", VLLM, 0o755)
    host.write(f"{ROOT}/current/instances/tiny.yaml", "".join(f"{name}: {value}\n" for name, value in OPTIONS.items()))
    host.write(f"{ROOT}/current/instances/tiny.env", rendered("vllm.env.j2", pairs=[("ODD", ODD)]), 0o600)
    host.write("/etc/systemd/system/vllm@.service", unit())
    host.write("/etc/systemd/system/vllm@.service.d/test.conf", IMPATIENT)
    host.run(["useradd", "--system", "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin", "vllm"])
    host.run(["install", "-d", "-o", "vllm", "-g", "vllm", "-m", "0750", f"{ROOT}/cache/0123abcd"])
    tiny_model.build(host.machine.folder / "root" / ROOT.lstrip("/") / "models" / "tiny")
    host.run(["systemctl", "daemon-reload"])


def test_it_serves_below_the_exposure_limit(served: Served) -> None:
    served.serves()
    body = json.dumps({"model": "tiny", "prompt": "Hello", "max_tokens": 5})
    assert '"completion_tokens": 5' in served.does(f"curl -s http://127.0.0.1:{PORT}/v1/completions -d '{body}'")
    score = re.search(r"Overall exposure level for \S+: ([0-9.]+)", served.does("systemd-analyze security vllm@tiny"))
    assert score is not None
    assert float(score[1]) <= EXPOSURE_LIMIT


def test_a_quoted_variable_arrives_unchanged(served: Served) -> None:
    served.serves()
    environment = served.does(f"cat /proc/{served.property('MainPID')}/environ").split("\0")
    assert f"ODD={ODD}" in environment


def test_it_writes_to_its_cache_and_nowhere_else(served: Served) -> None:
    served.serves()
    inside = f"nsenter -t {served.property('MainPID')} -m setpriv --reuid vllm --clear-groups touch"
    assert served.does(f"{inside} {ROOT}/cache/0123abcd/x") == ""
    for place in (f"{ROOT}/x", f"{ROOT}/current/instances/x", "/etc/x", "/var/tmp/../lib/x"):
        assert re.search("Read-only|denied", served.does(f"{inside} {place}"))


def test_an_engine_that_died_with_status_0_is_restarted(served: Served) -> None:
    served.serves("dies-after-ready 0.5")
    assert served.becomes(lambda: int(served.property("NRestarts")) > 0)


def test_an_unknown_option_is_not_tried_again(served: Served) -> None:
    served.starts("unknown-flag")
    assert served.becomes(lambda: served.property("ActiveState") == "failed")
    time.sleep(1.5)
    assert served.property("NRestarts") == "0"
    assert served.property("ExecMainStatus") == "2"


def test_an_engine_that_ignores_sigterm_is_killed_with_all_its_processes(served: Served) -> None:
    served.serves("ignores-sigterm")
    served.does("systemctl stop vllm@tiny")
    assert served.property("Result") == "timeout"
    assert served.does("pgrep -u vllm") == ""


def test_five_failures_in_a_row_end_the_attempts(served: Served) -> None:
    served.starts("dies-at-start")
    assert served.becomes(lambda: served.property("ActiveState") == "failed", timeout_s=30)
    assert int(served.property("NRestarts")) >= 4
