"""The gate on practice hosts: every way in which an engine may fail, on a host that serves and on one that never did.

On the host that serves each new release fails in its own way, is explained, and what served before serves again.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from rackhand.lab.fleet import Fleet
from tests.lab.deploying import Result
from tests.lab.serving import Rack

pytestmark = pytest.mark.lab

OLD, NEW = "0.32.0", "0.31.0"
SHORT = {"gate_start_timeout_s": 6, "gate_request_timeout_s": 2, "serve_shutdown_timeout_s": 1}
NAME, PAIR = "gated", "gatepair"
UNIT, PORT = "vllm@tiny-0", "8000"
SERVES = ["tiny-0 active", "tiny-0 enabled"]


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One fault of the stand-in, and the words that an operator must read; `quoted` is a line of the engine's own."""

    name: str
    code: str
    what: str
    next_step: str
    quoted: str = ""


FAULTS = (
    Fault(
        name="dies-at-start",
        code="no-cache-memory",
        what="leave nothing of the GPU for the KV cache",
        next_step="Give the model more GPUs",
        quoted="ValueError: No available memory for the cache blocks.",
    ),
    Fault(
        name="unknown-flag",
        code="unknown-option",
        what="does not know the option --no-such-flag",
        next_step="Remove or rename it in serve_options",
        quoted="vllm: error: unrecognized arguments: --no-such-flag",
    ),
    Fault(
        name="hangs-at-start",
        code="gate-start-timeout",
        what="/health did not answer 200 within 6 s, last seen starting the engine",
        next_step="raise gate_start_timeout_s",
        quoted="Waiting for 1 worker process to become ready.",
    ),
    Fault(
        name="unhealthy",
        code="gate-start-timeout",
        what="/health did not answer 200 within 6 s, last seen serving",
        next_step="raise gate_start_timeout_s",
    ),
    Fault(
        name="hangs-at-completion",
        code="gate-timeout",
        what="/v1/completions did not answer within 2 s",
        next_step="raise gate_request_timeout_s, or read its journal on the host: journalctl -u {unit}",
    ),
    Fault(
        name="wrong-model-name",
        code="gate-model",
        what="/v1/models serves another-model, the plan says tiny",
        next_step="ss -ltnp 'sport = :{port}'",
    ),
    Fault(
        name="wrong-context",
        code="gate-context",
        what="/v1/models says a context of 128 tokens, the plan says 256",
        next_step="ss -ltnp 'sport = :{port}'",
    ),
    Fault(
        name="wrong-version",
        code="gate-version",
        what="/version says 0.0.1, the release is 0.31.0",
        next_step="ss -ltnp 'sport = :{port}'",
    ),
    Fault(
        name="four-tokens",
        code="gate-tokens",
        what="asked for 5 tokens, got 4",
        next_step="try another engine_version",
    ),
    Fault(
        name="garbage-completion",
        code="gate-completion",
        what="/v1/completions answered no JSON object: '\\x00",
        next_step="ss -ltnp 'sport = :{port}'",
    ),
    Fault(
        name="completion-500",
        code="gate-answer",
        what="/v1/completions answered 500: Internal server error",
        next_step="journalctl -u {unit}",
        quoted="POST /v1/completions",
    ),
    Fault(
        name="frozen-counter",
        code="gate-counter",
        what="counter of generated tokens (/metrics) moved by 0 for 5 tokens",
        next_step="disable-log-stats",
    ),
    Fault(
        name="dies-at-completion",
        code="engine-died",
        what="the engine ended at the gate (exit status 0): /v1/completions answered 500",
        next_step="journalctl -u {unit}",
        quoted="EngineDeadError",
    ),
    Fault(
        name="dies-after-ready 0.8",
        code="engine-died",
        what="the engine ",  # it ended, at the gate or before, or is seen dying: as the hosts' speed has it
        next_step="journalctl -u {unit}",
        quoted="EngineDeadError",
    ),
)


@pytest.fixture(scope="module")
def rack(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rack]:
    """Yield a host that serves."""
    rack = Rack.of(fleet, tmp_path_factory.mktemp("gate"), NAME)
    rack.serves(**SHORT)
    yield rack
    fleet.remove(NAME)


@pytest.fixture(scope="module")
def pair(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rack]:
    """Yield a host of two GPUs that never served."""
    fleet.up(PAIR, "2xRTX4090").wait_ssh()
    yield Rack.of(fleet, tmp_path_factory.mktemp("pair"), PAIR, "2xRTX4090")
    fleet.remove(PAIR)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name.split()[0])
def test_a_release_that_fails_is_explained_and_what_served_serves_again(rack: Rack, fault: Fault) -> None:
    before = current(rack)
    rack.breaks(f"{fault.name} version={NEW}")
    result = rack.deploy(**{**SHORT, **rack.world.engine(NEW)})
    rack.breaks()
    assert (result.status, result.host(NAME)["status"]) == (1, "rolled back"), result.printed
    explains(result, NAME, fault, f"; release {before} was brought back and answered five tokens")
    assert (current(rack), rack.left()) == (before, SERVES)
    assert f'"version": "{OLD}"' in rack.does("curl -s 127.0.0.1:8000/version")
    host = result.host(NAME)
    assert [(item["gate"], item["version"]) for item in host["instances"]] == [("passed", OLD)]
    assert host["turn"]["back_s"] is not None
    assert "rolled back" in result.printed


def test_without_its_fault_the_same_release_serves(rack: Rack) -> None:
    assert [item["version"] for item in rack.serves(**{**SHORT, **rack.world.engine(NEW)}).host(NAME)["instances"]] == [
        NEW
    ]


@pytest.mark.parametrize("name", ["dies-at-start", "hangs-at-completion"])
def test_a_first_deploy_that_fails_on_one_gpu_leaves_nothing_half_enabled(pair: Rack, name: str) -> None:
    fault = next(fault for fault in FAULTS if fault.name == name)
    pair.breaks(f"{name} port=8000")
    result = pair.deploy(**SHORT)
    pair.breaks()
    assert (result.status, result.host(PAIR)["status"]) == (1, "failed"), result.printed
    explains(result, PAIR, fault, "until the next run its units are stopped and disabled")
    assert pair.left() == []
    assert "No such file" in pair.does("ls /opt/rackhand/current")


def test_the_same_command_heals_a_first_deploy(pair: Rack) -> None:
    result = pair.serves(**SHORT)
    assert [item["gate"] for item in result.host(PAIR)["instances"]] == ["passed"] * 2
    assert pair.left() == [f"tiny-{number} {state}" for number in range(2) for state in ("active", "enabled")]


def current(rack: Rack) -> str:
    return rack.does("basename $(readlink /opt/rackhand/current)").strip()


def explains(result: Result, name: str, fault: Fault, then: str) -> None:
    """Require the report and the printed table to tell what, where, what next, and what became of the host."""
    problem: dict[str, Any] = next(
        each for each in result.host(name)["problems"] if each["where"] == f"@lab/{name} {UNIT}"
    )
    assert problem["code"] == fault.code, problem
    assert fault.what in problem["what"]
    assert fault.next_step.replace("{unit}", UNIT).replace("{port}", PORT) in problem["next_step"]
    assert problem["next_step"].endswith(then)
    assert fault.quoted in "\n".join(problem["evidence"])
    assert problem["what"] in result.printed
    assert "Traceback" not in result.printed
