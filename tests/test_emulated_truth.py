"""The emulated driver library answers as a real H200 did: same calls, same types, same codes, call by call."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rackhand.lab import personality
from tests.lab.test_emulated_nvml import Host

ROOT = Path(__file__).parents[1]
RECORDED = ROOT / "tests/fixtures/nvml/h200-580.159.04/calls.json"
REAL: list[dict[str, Any]] = json.loads(RECORDED.read_text())
# What differs between any two cards, drivers or moments; of these the type and the shape have to be the same.
ITS_OWN = {
    "nvmlSystemGetDriverVersion",
    "nvmlDeviceGetUUID",
    "nvmlDeviceGetMemoryInfo",
    "nvmlDeviceGetPersistenceMode",
    "nvmlDeviceGetVbiosVersion",
    "nvmlDeviceGetTemperature",
    "nvmlDeviceGetPcieReplayCounter",
    "nvmlDeviceGetFieldValues",
    "nvmlDeviceGetHandleByPciBusId",
}
RECORDER = "import json; from benchmarks import nvml_truth; print(json.dumps(nvml_truth.calls()))"

Call = tuple[str, str]


def by_call(answers: list[dict[str, Any]]) -> dict[Call, dict[str, Any]]:
    return {(each["call"], repr(each["arguments"])): each for each in answers}


@pytest.fixture(scope="module")
def emulated(tmp_path_factory: pytest.TempPathFactory) -> dict[Call, dict[str, Any]]:
    host = Host(tmp_path_factory.mktemp("host"), personality.load("1xH200"))
    argv = [sys.executable, "-c", RECORDER]
    done = subprocess.run(argv, env=host.environment(), cwd=ROOT, capture_output=True, check=True)
    return by_call(json.loads(done.stdout))


def shape(value: Any) -> Any:
    """Return a value with each of its numbers and words replaced by their kind."""
    if isinstance(value, dict):
        return {name: shape(each) for name, each in value.items()}
    return [shape(each) for each in value] if isinstance(value, list) else type(value).__name__


@pytest.mark.parametrize("call", by_call(REAL), ids=lambda call: f"{call[0]}{call[1]}")
def test_the_emulated_library_answers_each_call_as_the_real_one(
    emulated: dict[Call, dict[str, Any]], call: Call
) -> None:
    real, ours = by_call(REAL)[call], emulated[call]
    if call[0] in ITS_OWN and "value" in real and "value" in ours:
        real, ours = ({**answer, "value": shape(answer["value"])} for answer in (real, ours))
    assert ours == real


def test_what_is_asked_of_one_is_asked_of_the_other(emulated: dict[Call, dict[str, Any]]) -> None:
    assert set(emulated) == set(by_call(REAL))
