"""A real vLLM on a practice host: from bare to five tokens, hardened, killed, and with a model that breaks it."""

import json
import re
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rackhand.lab import tiny_model
from rackhand.lab.connector import CHECKOUT
from rackhand.lab.fleet import Fleet
from tests.lab.deploying import Result
from tests.lab.serving import Rack
from tests.test_unit_template import EXPOSURE_LIMIT

pytestmark = [pytest.mark.lab, pytest.mark.engine]

KEY = "canary-5f0c2e"
ENGINE = "VLLM::EngineCore"
INSTANCES = "/opt/rackhand/current/instances"


class Real:
    """A practice host with the settings of the practice fleet, and an API key on top."""

    def __init__(self, rack: Rack) -> None:
        self.rack = rack
        lab = runpy.run_path(str(CHECKOUT / "group_data" / "lab.py"))
        key = rack.world.directory / "key"
        key.write_text(f"{KEY}\n")
        key.chmod(0o600)
        self.settings: dict[str, Any] = {
            **{name: value for name, value in lab.items() if not name.startswith("_")},
            "serve_api_key_from": f"file:{key}",
            "gate_request_timeout_s": 60,
        }

    def deploys(self, **settings: Any) -> Result:
        return self.rack.deploy(**{**self.settings, **settings})

    def asks(self, path: str, body: dict[str, Any] | None = None, key: str = "") -> tuple[int, str]:
        """Ask the engine from inside the host; return status and answer."""
        command = ["curl", "-s", "-w", "\\n%{http_code}", f"http://127.0.0.1:8000{path}"]
        command += ["-H", f"Authorization: Bearer {key}"] if key else []
        command += ["-H", "Content-Type: application/json", "-d", json.dumps(body)] if body else []
        text, _, status = self.rack.host.run(command).stdout.rpartition("\n")
        return int(status), text


@pytest.fixture(scope="module")
def real(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Real]:
    yield Real(Rack.of(fleet, tmp_path_factory.mktemp("real"), "real"))
    fleet.remove("real")


@pytest.fixture(scope="module")
def deployed(real: Real) -> Result:
    """Deploy to the bare host."""
    result = real.deploys()
    assert result.status == 0, result.printed
    return result


def test_five_tokens_come_out_of_a_real_engine(deployed: Result) -> None:
    instance = deployed.host("real")["instances"][0]
    assert (instance["name"], instance["gate"], instance["port"]) == ("tiny-0", "passed", 8000)
    assert instance["version"].startswith("0.32.0")
    assert instance["text"]
    assert instance["ready_s"] > 1
    assert instance["memory"]["reported_tokens"] > 0
    assert instance["memory"]["percent"] is None
    assert instance["memory"]["words"].endswith("tokens on a CPU, not compared")
    assert deployed.host("real")["warnings"] == []
    print(f"the engine answered {instance['text']!r}, version {instance['version']}, after {instance['ready_s']} s")


def test_the_key_opens_the_api_and_appears_nowhere_else(real: Real, deployed: Result) -> None:
    question = {
        "model": "tiny",
        "prompt": "The rack is ready and",
        "max_tokens": 7,
        "temperature": 0,
        "ignore_eos": True,
    }
    status, text = real.asks("/v1/completions", question, KEY)
    assert status == 200, text
    assert json.loads(text)["usage"]["completion_tokens"] == 7
    assert real.asks("/v1/completions", question)[0] == 401
    assert real.asks("/v1/models", key="wrong")[0] == 401
    assert KEY not in deployed.printed
    assert KEY not in json.dumps(deployed.report)
    assert KEY not in real.rack.does("ps -eo args; journalctl --no-pager -o cat")


def test_the_unit_is_hardened_while_the_engine_serves(real: Real, deployed: Result) -> None:
    assert real.asks("/health")[0] == 200
    told = real.rack.does("systemd-analyze security --no-pager vllm@tiny-0")
    score = re.search(r"Overall exposure level for \S+: ([0-9.]+)", told)
    assert score is not None, told
    assert float(score[1]) <= EXPOSURE_LIMIT
    print(f"systemd-analyze security: {score[1]}")


def test_no_process_of_the_unit_is_root(real: Real, deployed: Result) -> None:
    status = "grep -l /vllm@tiny-0.service /proc/[0-9]*/cgroup | sed 's/cgroup$/status/'"
    users = real.rack.does(f"awk '/^Uid:/ {{print $2, $3, $4, $5}}' $({status})").splitlines()
    assert len(users) >= 2, users
    assert {number for line in users for number in line.split()} == {real.rack.does("id -u vllm").strip()}


def test_secrets_lie_in_files_that_only_root_reads(real: Real, deployed: Result) -> None:
    assert real.rack.does(f"stat -L -c '%a %U' {INSTANCES}/tiny-0.env").split() == ["600", "root"]
    assert real.rack.does(f"stat -L -c '%a %U' {INSTANCES}/tiny-0.yaml").split() == ["644", "root"]
    found = real.rack.does(f"grep -rl {KEY} /opt/rackhand /etc /var/log /run --exclude-dir=venvs 2>/dev/null").split()
    assert [Path(name).name for name in found] == ["tiny-0.env"]


def test_what_the_engine_reported_is_kept_beside_its_release(real: Real, deployed: Result) -> None:
    (record,) = json.loads(real.rack.does("cat /opt/rackhand/current/measured.json"))["instances"]
    assert record["reported"]["device"] == "cpu"
    assert record["reported"]["kv_tokens"] == deployed.host("real")["instances"][0]["memory"]["reported_tokens"]
    assert record["reported"]["init_s"] > 0


def test_a_second_run_changes_nothing(real: Real, deployed: Result) -> None:
    before = real.rack.pid("tiny-0")
    result = real.deploys()
    assert result.status == 0, result.printed
    assert result.changed("real") == []
    assert result.host("real")["status"] == "unchanged"
    assert result.host("real")["ssh_commands"] <= 12
    assert real.rack.pid("tiny-0") == before


def test_a_killed_engine_core_ends_with_status_0_and_systemd_starts_it_again(real: Real, deployed: Result) -> None:
    before = real.rack.pid("tiny-0")
    real.rack.does(f"pkill -9 -f {ENGINE}")
    assert real.rack.becomes(lambda: real.rack.pid("tiny-0") not in (0, before), timeout_s=60)
    assert real.rack.unit("tiny-0", "NRestarts") == ["1"]
    assert "status=" not in real.rack.does("journalctl -u vllm@tiny-0 -o cat | grep 'Main process exited'")
    result = real.deploys()
    assert result.status == 0, result.printed
    assert result.host("real")["instances"][0]["gate"] == "passed"
    assert result.changed("real") == []


def test_a_model_that_dies_at_its_first_completion_is_not_believed_and_the_one_before_serves_again(
    real: Real, deployed: Result
) -> None:
    broken = tiny_model.build(real.rack.world.directory / "broken", head_dim=16)
    before = real.rack.does("readlink /opt/rackhand/current")
    result = real.deploys(model_path=str(broken))
    print(json.dumps(result.host("real")["problems"], indent=1))
    assert result.status == 1, result.printed
    problem = result.problem("real")
    assert problem["where"] == "@lab/real vllm@tiny-0"
    assert problem["code"] == "attention-shape"
    assert problem["what"].startswith("the engine ")
    assert "head_dim=16" in problem["what"]
    assert "Unsupported CPU attention configuration" in "\n".join(problem["evidence"])
    assert result.host("real")["status"] == "rolled back"
    assert real.rack.does("readlink /opt/rackhand/current") == before
    assert real.rack.left() == ["tiny-0 active", "tiny-0 enabled"]
    assert [each["gate"] for each in result.host("real")["instances"]] == ["passed"]
