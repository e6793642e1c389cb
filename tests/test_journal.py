"""The log of a vLLM that did not start is reduced to the line that decides, and a start tells how far it is."""

from pathlib import Path

import pytest

from rackhand import catalog
from rackhand.journal import decisive_line, startup_phase

SAMPLES = Path(__file__).parent / "fixtures" / "journal"
FAILED = sorted(path.stem for path in SAMPLES.glob("*.txt") if path.stem != "healthy")


def sample(name: str) -> list[str]:
    return (SAMPLES / f"{name}.txt").read_text().splitlines()


@pytest.mark.parametrize("name", FAILED)
def test_each_failed_start_is_named_by_its_root_cause(name: str) -> None:
    finding = decisive_line(sample(name))
    assert finding is not None
    assert finding.code == name.removesuffix("-uvicorn")
    assert "root cause above" not in finding.line
    assert not finding.line.startswith(("(", "ERROR"))
    # Only a line of an error ends the wait: an unknown exception and a warning may be harmless.
    assert finding.fatal is (name not in ("exception", "no-driver"))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("context-too-long", "Set serve_max_model_len to 34816 or less, or give the model more GPUs."),
        ("context-over-model", "Set serve_max_model_len to 2048 or less."),
    ],
)
def test_a_remedy_carries_the_number_that_the_line_names(name: str, words: str) -> None:
    finding = decisive_line(sample(name))
    assert finding is not None
    assert finding.remedy == words


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("gpu-memory-taken", "27.28 of 79.11 GiB are free on cuda:0 and vLLM wants 72.78 GiB"),
        ("unknown-option", "--swap-space 4"),
        ("unknown-quantization", "squeezellm"),
        ("port-taken-uvicorn", "127.0.0.1 port 8000"),
        ("shared-memory", "/dev/shm has less than the 240 MiB"),
        ("cpu-memory", "9.81 of 23.42 GiB"),
        ("model-missing", "/opt/rackhand/models/llama@0e9e39f"),
        ("bfloat16-unsupported", "Tesla T4 has compute capability 7.5"),
        ("exec-failed", "/opt/rackhand/current/venv/bin/vllm (step EXEC, No such file or directory)"),
        ("exception", "IndexError"),
    ],
)
def test_a_cause_says_what_exactly(name: str, part: str) -> None:
    finding = decisive_line(sample(name))
    assert finding is not None
    assert part in finding.cause


def test_a_healthy_start_holds_no_failure() -> None:
    assert decisive_line(sample("healthy")) is None


def test_an_empty_log_and_a_log_of_systemd_alone_hold_no_failure() -> None:
    assert decisive_line([]) is None
    assert startup_phase([]) is None
    assert decisive_line(["Started vllm@llama.service - vLLM server llama."]) is None


def test_an_optional_import_that_failed_earlier_does_not_hide_the_cause() -> None:
    lines = ["ImportError: No module named 'flash_attn_3'", *sample("no-cache-memory")]
    finding = decisive_line(lines)
    assert finding is not None
    assert finding.code == "no-cache-memory"


def test_the_first_known_failure_wins_over_what_it_brings_about() -> None:
    finding = decisive_line([*sample("gpu-out-of-memory"), "OSError: [Errno 98] Address already in use"])
    assert finding is not None
    assert finding.code == "gpu-out-of-memory"


def test_a_users_text_in_an_info_line_is_not_a_failure() -> None:
    assert decisive_line(["(APIServer pid=1) INFO 11-23 22:51:00 [logger.py:40] prompt: 'CUDA out of memory'"]) is None


def test_only_wrappers_leave_nothing_to_quote() -> None:
    lines = ["(APIServer pid=1) RuntimeError: Engine core initialization failed. See root cause above."]
    assert decisive_line(lines) is None


def test_a_warning_about_an_unknown_variable_does_not_end_the_wait() -> None:
    finding = decisive_line(
        ["WARNING 11-23 22:51:00 [envs.py:99] Unknown vLLM environment variable detected: VLLM_FOO"]
    )
    assert finding is not None
    assert not finding.fatal


def test_colours_and_journalctls_own_prefix_do_not_matter() -> None:
    line = "Nov 23 22:51:00 gpu7 vllm[123]: \x1b[0;36m(EngineCore pid=123)\x1b[0;0m ERROR 11-23 22:51:00 [core.py:123] "
    finding = decisive_line([line + "ValueError: No available memory for the cache blocks."])
    assert finding is not None
    assert finding.line == "ValueError: No available memory for the cache blocks."


def test_a_line_without_end_is_quoted_in_part() -> None:
    finding = decisive_line(["vllm: error: unrecognized arguments: " + "x" * 5000])
    assert finding is not None
    assert len(finding.line) < 700


def test_a_start_goes_through_its_phases_in_order() -> None:
    lines = sample("healthy")
    told = [startup_phase(lines[: count + 1]) for count in range(len(lines))]
    assert list(dict.fromkeys(told)) == [
        None,
        "starting",
        "reading the model's configuration",
        "starting the engine",
        "loading weights",
        "loading weights, 50 %",
        "preparing the model",
        "compiling the model",
        "profiling memory",
        "creating the KV cache",
        "capturing CUDA graphs",
        "warming up",
        "starting the API server",
        "serving",
    ]


def test_every_phase_of_the_catalogue_is_reached_by_a_line() -> None:
    told = [startup_phase([line]) for name in ("healthy", "context-too-long") for line in sample(name)]
    assert {phase.words.split(",")[0] for phase in catalog.phases()} == {
        (words or "").split(",")[0] for words in told
    } - {""}
