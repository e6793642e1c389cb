"""The gate on a practice host: every way in which an engine may fail, on a host that never served and on one that did.

Eight engines on eight GPUs: seven fail, each in its own way, beside one that is healthy. Two such batches, and for each
the run that heals.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from rackhand.lab.fleet import Fleet
from tests.lab.deploying import Result
from tests.lab.serving import Rack

pytestmark = pytest.mark.lab

SHORT = {"gate_start_timeout_s": 10, "gate_request_timeout_s": 2, "serve_shutdown_timeout_s": 1}
HEALTHY = "tiny-7"
ALONE = [f"{HEALTHY} active", f"{HEALTHY} enabled"]


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One fault of the stand-in, and the words that an operator must read; `quoted` is a line of the engine's own."""

    name: str
    code: str
    what: str
    next_step: str
    quoted: str = ""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """A run with seven faults, and what was left of the units after it."""

    result: Result
    left: list[str]
    pid: int


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
        what="/health did not answer 200 within 10 s, last seen starting the engine",
        next_step="raise gate_start_timeout_s",
        quoted="Waiting for 1 worker process to become ready.",
    ),
    Fault(
        name="unhealthy",
        code="gate-start-timeout",
        what="/health did not answer 200 within 10 s, last seen serving",
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
        what="/version says 0.0.1, the release is 0.32.0",
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
HALVES = (FAULTS[::2], FAULTS[1::2])
ALL = pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name.split()[0])


@pytest.fixture(scope="module")
def rack(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rack]:
    rack = Rack.of(fleet, tmp_path_factory.mktemp("eight"), "eight", "8xH100-nvswitch")
    fleet.up("eight", "8xH100-nvswitch").wait_ssh()
    yield rack
    fleet.remove("eight")


@pytest.fixture(scope="module")
def first(rack: Rack) -> list[Batch]:
    """Deploy twice to a host on which the seven never passed."""
    return [batch(rack, half) for half in HALVES]


@pytest.fixture(scope="module")
def healed(rack: Rack, first: list[Batch]) -> Result:
    """Deploy once more, without a fault."""
    rack.breaks()
    return rack.deploy(**SHORT)


@pytest.fixture(scope="module")
def changed(rack: Rack, healed: Result) -> list[tuple[Batch, Result]]:
    """Change all eight on a host that serves, with faults, and run the same command again without them."""
    done = []
    for number, half in enumerate(HALVES):
        failed = batch(rack, half, serve_env={"CHANGE": str(number)})
        rack.breaks()
        done.append((failed, rack.deploy(**SHORT, serve_env={"CHANGE": str(number)})))
    return done


def batch(rack: Rack, half: tuple[Fault, ...], **settings: Any) -> Batch:
    rack.breaks(*(f"{fault.name} port={8000 + number}" for number, fault in enumerate(half)))
    result = rack.deploy(**SHORT, **settings)
    return Batch(result=result, left=rack.left(), pid=rack.pid(HEALTHY))


@ALL
def test_a_first_start_that_fails_is_explained(first: list[Batch], fault: Fault) -> None:
    explains([each.result for each in first], fault)


def test_a_first_start_that_fails_leaves_nothing_half_enabled_and_the_healthy_one_serving(first: list[Batch]) -> None:
    for each, untouched in zip(first, ("passed", "not run"), strict=True):
        assert each.left == ALONE
        assert [item["gate"] for item in each.result.host("eight")["instances"]] == ["failed"] * 7 + [untouched]
    assert first[0].pid == first[1].pid != 0


def test_without_the_faults_the_same_command_starts_the_seven(rack: Rack, healed: Result, first: list[Batch]) -> None:
    assert healed.status == 0, healed.printed
    assert [item["gate"] for item in healed.host("eight")["instances"]] == ["passed"] * 8
    assert rack.left() == [f"tiny-{number} {state}" for number in range(8) for state in ("active", "enabled")]


@ALL
def test_a_change_that_fails_is_explained(changed: list[tuple[Batch, Result]], fault: Fault) -> None:
    explains([failed.result for failed, _ in changed], fault)


def test_a_change_that_fails_stops_what_failed_and_heals_by_the_same_command(
    changed: list[tuple[Batch, Result]],
) -> None:
    for failed, after in changed:
        assert failed.left == ALONE
        assert after.status == 0, after.printed
        assert [item["gate"] for item in after.host("eight")["instances"]] == ["passed"] * 8
        assert "Service | running" in after.changed("eight")


def explains(results: list[Result], fault: Fault) -> None:
    """Require the report and the printed table to tell what, where and what next."""
    half = next(number for number, each in enumerate(HALVES) if fault in each)
    number, result = HALVES[half].index(fault), results[half]
    unit, port = f"vllm@tiny-{number}", str(8000 + number)
    assert result.status == 1, result.printed
    assert result.host("eight")["status"] == "failed"
    problem = next(each for each in result.host("eight")["problems"] if each["where"] == f"@lab/eight {unit}")
    assert problem["code"] == fault.code, problem
    assert fault.what in problem["what"]
    assert fault.next_step.replace("{unit}", unit).replace("{port}", port) in problem["next_step"]
    assert problem["next_step"].endswith("; until the next run the unit is stopped and disabled")
    assert fault.quoted in "\n".join(problem["evidence"])
    assert problem["what"] in result.printed
    assert "Traceback" not in result.printed
