"""The commands that judge engines look at a practice host, change nothing and find what is wrong."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rackhand.lab.connector import CHECKOUT
from rackhand.lab.fleet import Fleet
from tests.lab.serving import Rack

pytestmark = pytest.mark.lab

KEY = "canary-73c1d0"


class Judge:
    """A practice host with two engines, one of which has a key, and the commands that judge them."""

    def __init__(self, rack: Rack) -> None:
        self.rack = rack

    def judges(self, command: str, *arguments: str) -> tuple[int, dict[str, Any], str]:
        """Run a command against the host; return its exit status, its JSON and everything that it printed."""
        inventory = str(self.rack.world.directory / "world.py")
        words = [command, inventory, "--json", "--seconds", "1", *arguments]
        done = subprocess.run(
            [sys.executable, "-m", "rackhand.cli", *words], cwd=CHECKOUT, env=dict(os.environ), capture_output=True,
            text=True, check=False,
        )  # fmt: skip
        assert done.stdout, done.stderr
        return done.returncode, json.loads(done.stdout), done.stdout + done.stderr


@pytest.fixture(scope="module")
def judge(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Judge]:
    directory = tmp_path_factory.mktemp("judge")
    key = directory / "key"
    key.write_text(f"{KEY}\n")
    key.chmod(0o600)
    rack = Rack.of(fleet, directory, "judge", "2xRTX4090")
    rack.serves(serve_api_key_from=f"file:{key}")
    yield Judge(rack)
    fleet.remove("judge")


def verdicts(engine: dict[str, Any]) -> dict[str, str]:
    return {finding["question"]: finding["verdict"] for finding in engine["findings"]}


def state(judge: Judge) -> str:
    """Return everything that looking could have changed."""
    files = "find /opt/rackhand /etc/systemd -newermt @0 -printf '%p %T@ %s\\n' | grep -v /cache/ | sort | sha256sum"
    units = "systemctl show 'vllm@tiny-0' 'vllm@tiny-1' --property ActiveState,MainPID,NRestarts,UnitFileState"
    return judge.rack.does(f"{files}; {units}")


def test_healthy_engines_pass_the_checklist_and_nothing_changes(judge: Judge) -> None:
    before = state(judge)
    status, document, _ = judge.judges("checklist")
    assert (status, document["problems"]) == (0, [])
    assert [engine["where"] for engine in document["engines"]] == ["@lab/judge tiny-0", "@lab/judge tiny-1"]
    for engine in document["engines"]:
        found = verdicts(engine)
        assert {name: found[name] for name in ("R63", "R66", "R67", "R70", "R71")} == dict.fromkeys(
            ("R63", "R66", "R67", "R70", "R71"), "pass"
        )
        assert found["R69"] == "n/a"
    assert state(judge) == before


def test_the_key_stays_on_the_host(judge: Judge) -> None:
    for command in ("checklist", "diagnose"):
        _, _, said = judge.judges(command)
        assert KEY not in said
    assert KEY not in judge.rack.does("journalctl --no-pager -o cat")


def test_an_engine_that_serves_another_context_fails_by_number(judge: Judge) -> None:
    judge.rack.breaks("wrong-context")
    try:
        status, document, _ = judge.judges("checklist")
    finally:
        judge.rack.breaks()
    assert status == 2
    (point,) = (finding for finding in document["engines"][0]["findings"] if finding["question"] == "R66")
    assert (point["code"], point["number"]) == ("context-differs", "served 128, planned 256 tokens")
    assert verdicts(document["engines"][0])["R67"] == "fail"


def test_a_restarted_and_a_stopped_engine_are_told_apart(judge: Judge) -> None:
    pid = judge.rack.pid("tiny-0")
    judge.rack.does(f"kill -9 {pid}; systemctl stop vllm@tiny-1")
    assert judge.rack.becomes(lambda: judge.rack.pid("tiny-0") not in (0, pid))
    assert judge.rack.becomes(
        lambda: judge.rack.does("curl -s -o /dev/null -w '%{http_code}' 127.0.0.1:8000/health") == "200"
    )
    status, document, _ = judge.judges("checklist")
    judge.rack.does("systemctl start vllm@tiny-1")
    codes = [next(f["code"] for f in engine["findings"] if f["question"] == "R70") for engine in document["engines"]]
    assert (status, codes) == (2, ["service-restarted", "service-down"])


def test_a_host_that_was_never_deployed_to_is_trouble(fleet: Fleet, tmp_path: Path) -> None:
    rack = Rack.of(fleet, tmp_path, "bare")
    rack.world.inventory({"bare": rack.data})
    try:
        status, document, _ = Judge(rack).judges("diagnose")
    finally:
        fleet.remove("bare")
    assert status == 1
    assert [problem["code"] for problem in document["problems"]] == ["not-deployed"]
