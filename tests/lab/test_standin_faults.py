"""The stand-in engine fails and ends like the real one, as far as the gate and systemd can see."""

import json
import signal
import subprocess
import sys
import time

import pytest

from rackhand.remote import startup
from tests.lab.standin_host import CARD, READY_S, VERSION, Host, host, installed

__all__ = ["host", "installed"]


@pytest.mark.parametrize(
    ("fault", "status", "line"),
    [
        ("dies-at-start", 1, "ValueError: No available memory for the cache blocks"),
        ("unknown-flag", 2, "unrecognized arguments"),
        ("no-such-fault", 1, "not a fault"),
        ("dies-after-ready 0.1", 0, "EngineDeadError"),
    ],
)
def test_a_fatal_fault_ends_the_process_with_the_real_status(host: Host, fault: str, status: int, line: str) -> None:
    host.breaks(fault)
    assert host.starts().wait(READY_S) == status
    assert line in host.journal()


@pytest.mark.parametrize(("faults", "share"), [((), 1.0), (("less-cache",), 0.8), (("less-cache 50",), 0.5)])
def test_with_a_card_it_reports_its_memory_and_a_fault_makes_that_less(
    host: Host, faults: tuple[str, ...], share: float
) -> None:
    card = f"gpu.0.uuid {CARD}\ngpu.0.memory_mib 16384\ngpu.0.reserved_mib 384\n"
    (host.place / "hardware").write_text(card)
    host.breaks(*faults)
    host.serves()
    said = startup.tell(host.journal().splitlines(), "")
    assert said["device"] == "gpu"
    available = 16_000 * 0.92 - 46 - 64 - 225
    assert said["available_kv_mib"] == pytest.approx(available * share, rel=0.01)
    assert said["kv_tokens"] == pytest.approx(available * share * (1 << 20) / 256, rel=0.01)
    assert said["allowed_mib"] == pytest.approx(16_000 * 0.92, rel=0.001)


def test_without_a_card_it_reports_a_cpu(host: Host) -> None:
    host.serves()
    assert startup.tell(host.journal().splitlines(), "")["device"] == "cpu"


def test_hangs_at_start_never_listens(host: Host) -> None:
    host.breaks("hangs-at-start")
    engine = host.starts()
    time.sleep(0.5)
    assert engine.poll() is None
    assert host.asks("/health")[0] == 0


def test_slow_start_delays_readiness_by_its_seconds(host: Host) -> None:
    host.breaks("slow-start 0.7")
    before = time.monotonic()
    host.serves()
    assert time.monotonic() - before > 0.7


def test_four_tokens_come_out_instead_of_five(host: Host) -> None:
    host.breaks("four-tokens")
    host.serves()
    assert json.loads(host.completes()[1])["usage"]["completion_tokens"] == 4


def test_the_wrong_name_is_served(host: Host) -> None:
    host.breaks("wrong-model-name")
    host.serves()
    assert "another-model" in host.asks("/v1/models")[1]
    assert host.completes()[0] == 404


def test_other_wrong_answers(host: Host) -> None:
    host.breaks("wrong-version", "wrong-context", "unhealthy", "frozen-counter")
    host.serves()
    assert host.asks("/health")[0] == 503
    assert VERSION not in host.asks("/version")[1]
    assert '"max_model_len": 128' in host.asks("/v1/models")[1]
    assert host.completes()[0] == 200
    assert host.counts("vllm:generation_tokens_total") == 0


def test_a_completion_fails_or_is_garbage(host: Host) -> None:
    host.breaks("completion-500")
    host.serves()
    assert host.completes()[0] == 500
    host.breaks("garbage-completion")
    status, text = host.completes()
    assert status == 200
    with pytest.raises(ValueError, match="Expecting value"):
        json.loads(text)


def test_a_hanging_completion_leaves_health_green(host: Host) -> None:
    host.breaks("hangs-at-completion")
    host.serves()
    assert host.completes(timeout_s=0.3)[0] == 0
    assert host.asks("/health")[0] == 200


def test_a_death_at_the_first_completion_is_a_clean_exit(host: Host) -> None:
    host.breaks("dies-at-completion")
    engine = host.serves()
    assert host.completes()[0] == 500
    assert engine.wait(READY_S) == 0


def test_a_fault_may_be_limited_to_a_version_or_a_port(host: Host) -> None:
    host.breaks("unhealthy version=0.33.0", f"four-tokens port={host.port + 1}")
    host.serves()
    assert host.asks("/health")[0] == 200
    assert json.loads(host.completes()[1])["usage"]["completion_tokens"] == 5
    host.breaks(f"unhealthy version={VERSION} port={host.port}")
    assert host.asks("/health")[0] == 503


def test_sigterm_lets_a_running_request_finish_and_refuses_new_ones(host: Host) -> None:
    host.breaks("slow-tokens 0.2")
    engine = host.serves()
    command = [
        sys.executable,
        "-c",
        "import sys, urllib.request as u; print(u.urlopen(sys.argv[1], sys.argv[2].encode()).read())",
    ]
    body = json.dumps({"model": "tiny", "prompt": "Hello", "max_tokens": 5})
    client = subprocess.Popen(
        [*command, f"http://127.0.0.1:{host.port}/v1/completions", body], stdout=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + READY_S
    while not host.counts("vllm:num_requests_running") and time.monotonic() < deadline:
        time.sleep(0.02)
    engine.send_signal(signal.SIGTERM)
    time.sleep(0.2)
    assert host.asks("/health")[0] == 0
    assert '"completion_tokens": 5' in client.communicate(timeout=READY_S)[0]
    assert engine.wait(READY_S) == 0


def test_sigterm_ends_an_idle_engine_at_once(host: Host) -> None:
    engine = host.serves()
    before = time.monotonic()
    engine.send_signal(signal.SIGTERM)
    assert engine.wait(READY_S) == 0
    assert time.monotonic() - before < 5


def test_sigterm_may_be_ignored(host: Host) -> None:
    host.breaks("ignores-sigterm")
    engine = host.serves()
    engine.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    assert engine.poll() is None
    assert host.asks("/health")[0] == 200
