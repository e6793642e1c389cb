"""Every row of the tables of checklist and diagnose, once where it holds and once where it does not."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from rackhand.diagnose import reference
from rackhand.diagnose.checklist import CHECKLIST
from rackhand.diagnose.observation import Observation
from rackhand.diagnose.rule import Finding, Table, Verdict, judge, worst
from rackhand.diagnose.symptoms import DIAGNOSIS
from tests.observations import (
    UP,
    Gate,
    Unit,
    around,
    benched,
    configured,
    forecast,
    journal,
    seen,
    traffic,
)

FLASH = ("Using FLASH_ATTN attention backend out of potential backends: ['FLASH_ATTN', 'TRITON_ATTN'].",)
TRITON = ("Using AttentionBackendEnum.TRITON_ATTN backend.",)
OOM = "ERROR 11-23 22:20:09 [core.py:1136] torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 1.10 GiB."
READY = "INFO:     Application startup complete."
SUGGESTED = (
    "INFO 11-23 [gpu_worker.py:1] with `--kv-cache-memory=42949672960` (40.0 GiB) to fit into requested memory, or"
)
XID = "NVRM: Xid (PCI:0000:3b:00): 79, pid=901, GPU has fallen off the bus."
QUEUE = traffic(running=100, waiting=20)


@dataclass(frozen=True, kw_only=True)
class Case:
    """One row: an observation where it holds with words of its number, and the nearest one where it does not."""

    row: str
    holds: Observation
    number: str
    not_for: Observation


def case(row: str, holds: Observation, number: str, not_for: Observation) -> Case:
    return Case(row=row, holds=holds, number=number, not_for=not_for)


def used(prompt: float, output: float, context: int, kv_usage: float = 0.1) -> Observation:
    return seen(
        settings={"max-model-len": context},
        traffic=traffic(kv_usage=kv_usage, prompt_tokens=prompt, output_tokens=output),
    )


POINTS = (
    case("quantised", seen(journal=configured("awq_marlin")), "awq_marlin", seen(journal=configured("None"))),
    case(
        "memory-short",
        seen(journal=configured("None"), traffic=traffic(kv_usage=0.97)),
        "97 % in use",
        seen(journal=configured("fp8"), traffic=traffic(kv_usage=0.97)),
    ),
    case(
        "memory-enough",
        seen(journal=configured("None"), traffic=traffic(kv_usage=0.9)),
        "memory is enough",
        seen(journal=configured("None"), traffic=traffic(preemptions=1.0)),
    ),
    case(
        "off", seen(settings={"no-enable-prefix-caching": True}), "off", seen(settings={"enable-prefix-caching": True})
    ),
    case(
        "hit-rate",
        seen(settings={}, traffic=traffic(prefix_queries=1000.0, prefix_hits=340.0)),
        "34 % of prompt tokens",
        seen(settings={}, traffic=traffic(prefix_queries=0.0, prefix_hits=0.0)),
    ),
    case("on", seen(settings={}), "nothing asked yet", seen(settings={"disable-prefix-caching": True})),
    case("fixed-cache", seen(settings={"kv-cache-memory-bytes": 12 << 30}), "fixed at 12.0 GiB", seen(settings={})),
    case(
        "share-low",
        seen(settings={"gpu-memory-utilization": 0.84}),
        "0.84",
        seen(settings={"gpu-memory-utilization": 0.85}),
    ),
    case(
        "share-high",
        seen(settings={"gpu-memory-utilization": 0.96}),
        "0.96",
        seen(settings={"gpu-memory-utilization": 0.95}),
    ),
    case("share", seen(settings={}), "vLLM's default share", seen(settings={"gpu-memory-utilization": 0.5})),
    case("context-tight", used(3000.0, 800.0, 4096), "3,800 of 4,096", used(2900.0, 700.0, 4096)),
    case("context-unused", used(600.0, 200.0, 4096, 0.95), "800 of 4,096", used(600.0, 200.0, 4096)),
    case("context", used(600.0, 600.0, 4096, 0.95), "1,200 of 4,096", used(4000.0, 96.0, 4096)),
    case(
        "slow-attention",
        seen(journal=TRITON, capability=(9, 0)),
        "TRITON_ATTN",
        seen(journal=TRITON, capability=(7, 5)),
    ),
    case("attention", seen(journal=FLASH), "FLASH_ATTN", seen(journal=("Using FLEX_ATTENTION attention backend",))),
    case(
        "context-differs",
        seen(settings={"max-model-len": 4096}, served_context=2048),
        "served 2,048, planned 4,096",
        seen(settings={"max-model-len": 2048}, served_context=2048),
    ),
    case(
        "client-differs",
        seen(served_context=4096, client_context=8192),
        "served 4,096, client 8,192",
        seen(served_context=4096, client_context=4096),
    ),
    case(
        "context-agrees",
        seen(settings={"max_model_len": 1, "max-model-len": 4096}, served_context=4096),
        "planned 4,096",
        seen(settings={"max-model-len": 4095}, served_context=4096),
    ),
    case(
        "gate-failed",
        seen(gate=Gate(failure="gate-tokens", what="asked for 5 tokens, got 4")),
        "got 4",
        seen(gate=Gate(failure="", what="")),
    ),
    case(
        "gate-passed",
        seen(gate=Gate(failure="", what="")),
        "5 of 5 tokens",
        seen(gate=Gate(failure="gate-text", what="no text")),
    ),
    case("decode", seen(bench=benched(49)), "20.4 tokens/s", seen(bench=benched(50))),
    case("decode-below-target", seen(traffic=traffic(tpot=0.1)), "10.0 tokens/s", seen(traffic=traffic(tpot=0.101))),
    case("decode-slow", seen(traffic=traffic(tpot=0.125)), "8.0 tokens/s", seen(traffic=traffic(tpot=0.04))),
    case("busy", seen(utilisation=(70, 90), traffic=QUEUE), "80 %", seen(utilisation=(79, 80), traffic=QUEUE)),
    case(
        "starved",
        seen(utilisation=(40.0,), bench=benched(20)),
        "40 %",
        seen(utilisation=(40.0,), traffic=traffic(running=9)),
    ),
    case(
        "service-down",
        seen(unit=Unit(active="failed", enabled=True, restarts=5)),
        "failed, enabled, 5 restarts",
        seen(unit=UP),
    ),
    case(
        "service-not-enabled", seen(unit=Unit(active="active", enabled=False, restarts=0)), "not enabled", seen(unit=UP)
    ),
    case("service-restarted", seen(unit=Unit(active="active", enabled=True, restarts=1)), "1 restart", seen(unit=UP)),
    case(
        "service",
        seen(unit=UP),
        "active, enabled, 0 restarts",
        seen(unit=Unit(active="activating", enabled=True, restarts=0)),
    ),
    case("incident", seen(kernel=(XID,)), "1 line, the last: NVRM: Xid", seen(journal=journal("healthy"))),
    case("no-incident", seen(journal=journal("healthy")), "0 lines", seen(journal=(OOM,))),
)


def slow(**given: object) -> Observation:
    """Return an engine with a queue, a GPU at 60 % and 64 sequences at once; what is given replaces that."""
    usual = {"settings": {"max-num-seqs": 64}, "utilisation": (60.0,), "traffic": traffic(running=64, waiting=9)}
    return seen(**{**usual, **given})


def late(**given: float) -> Observation:
    return seen(traffic=traffic(**{"ttft": 3.0, "queue": 0.1, "prefill": 0.2, **given}))


SYMPTOMS = (
    case(
        "engine-failure",
        seen(journal=journal("unknown-option")),
        "--swap-space",
        seen(journal=journal("unknown-option"), unit=UP),
    ),
    case(
        "memory-taken-at-start",
        seen(journal=journal("gpu-memory-taken")),
        "27.28 of 79.11 GiB",
        seen(journal=journal("healthy")),
    ),
    case(
        "no-cache-blocks",
        seen(journal=journal("no-cache-memory")),
        "nothing of the GPU",
        seen(journal=journal("gpu-memory-taken")),
    ),
    case(
        "cache-below-one-sequence",
        seen(journal=journal("context-too-long")),
        "16.0 GiB",
        seen(journal=journal("no-cache-memory")),
    ),
    case("memory-full-while-serving", seen(journal=(READY, OOM)), "outside the KV cache", seen(journal=(OOM, READY))),
    case(
        "memory-full-at-start",
        seen(journal=journal("gpu-out-of-memory")),
        "outside the KV cache",
        seen(journal=(READY, OOM)),
    ),
    case("memory-suffices", seen(journal=journal("healthy")), "no line", seen(journal=(OOM,))),
    case(
        "requests-fail",
        seen(traffic=traffic(finished={"stop": 90.0, "length": 8.0, "abort": 1.0, "error": 1.0})),
        "2 of 100 requests",
        seen(traffic=traffic(finished={"stop": 99.0, "abort": 1.0})),
    ),
    case(
        "requests-end-well",
        seen(traffic=traffic(finished={"stop": 99.0, "abort": 1.0})),
        "1 of 100 requests",
        seen(traffic=traffic(finished={"stop": 0.0})),
    ),
    case("not-slow", seen(bench=benched(50)), "20.0 tokens/s", seen(bench=benched(51))),
    case("slower-than-target", seen(bench=benched(51)), "19.6 tokens/s", seen(bench=benched(49))),
    case("slow", seen(traffic=traffic(tpot=0.2)), "5.0 tokens/s", seen(traffic=traffic(tpot=0.1))),
    case("slow-attention", seen(journal=TRITON), "TRITON_ATTN", seen(journal=FLASH)),
    case("eager", seen(settings={"enforce-eager": True}), "no CUDA graphs", seen(settings={"enforce-eager": False})),
    case(
        "preemption",
        slow(traffic=traffic(running=64, preemptions=12.0, kv_usage=0.99)),
        "12 preemptions in 5 s",
        slow(traffic=traffic(running=64, preemptions=0.0, kv_usage=0.99)),
    ),
    case(
        "cache-full",
        slow(traffic=traffic(running=30, waiting=9, kv_usage=0.95)),
        "KV cache 95 % used",
        slow(traffic=traffic(running=30, waiting=9, kv_usage=0.9)),
    ),
    case("sequences-limit", slow(), "max-num-seqs 64", slow(settings={"max-num-seqs": 128})),
    case(
        "batch-limit",
        slow(settings={"max-num-seqs": 128}),
        "9 waiting",
        slow(settings={"max-num-seqs": 128}, utilisation=(90.0,)),
    ),
    case("at-its-limit", slow(utilisation=(99.0,)), "GPU 99 % busy", slow(utilisation=(94.0,))),
    case(
        "client-limit",
        slow(traffic=traffic(running=4), client_threads=4),
        "4 client connections",
        slow(traffic=traffic(running=4), client_threads=16),
    ),
    case(
        "no-demand",
        slow(traffic=traffic(running=2)),
        "GPU 60 % busy, 2 running, 0 waiting",
        slow(traffic=traffic(running=2), utilisation=()),
    ),
    case("not-late", late(ttft=0.5), "within 0.50 s", late(ttft=0.6)),
    case("later-than-target", late(ttft=2.0), "within 2.00 s", late(ttft=2.1)),
    case("late", late(ttft=2.1), "within 2.10 s", late(ttft=0.4)),
    case("queue", late(queue=2.0), "2.00 s in the queue", late(queue=1.5)),
    case("prefill", late(prefill=2.0), "2.00 s in prefill", late(ttft=0.4, prefill=0.39)),
    case(
        "cold-prefix-cache",
        late(prefill=2.0, prefix_queries=1000.0, prefix_hits=50.0),
        "5 % of prompt tokens",
        late(prefill=2.0, prefix_queries=1000.0, prefix_hits=500.0),
    ),
    case("offload", seen(settings={"cpu-offload-gb": 8}), "cpu-offload-gb 8", seen(settings={"cpu-offload-gb": 0})),
    case("rejections", late(rejections=3.0), "3 requests were answered 503 in 5 s", late(rejections=0.0)),
)


def found(table: Table, observation: Observation, row: str) -> list[Finding]:
    return [finding for finding in judge(table, observation) if finding.code == row]


def rows(table: Table) -> list[str]:
    return [row.code for question in table for row in question.rows]


def verdicts(table: Table) -> dict[str, Verdict]:
    return {row.code: row.verdict for question in table for row in question.rows}


@pytest.mark.parametrize("each", POINTS, ids=lambda each: each.row)
def test_a_row_of_the_checklist_answers_where_it_holds_and_nowhere_else(each: Case) -> None:
    (finding,) = found(CHECKLIST, each.holds, each.row)
    assert each.number in finding.number
    assert found(CHECKLIST, each.not_for, each.row) == []


def test_the_last_words_of_an_engine_are_enough_to_say_that_it_ended() -> None:
    lines = (Path(__file__).parent / "fixtures/journal/exception.txt").read_text().splitlines()
    (finding,) = found(DIAGNOSIS, Observation(where="files", journal=tuple(lines)), "engine-failure")
    assert finding.verdict is Verdict.FAIL
    assert "IndexError" in finding.number
    assert found(DIAGNOSIS, Observation(where="files", journal=tuple(lines[:-1])), "engine-failure") == []


@pytest.mark.parametrize("each", SYMPTOMS, ids=lambda each: each.row)
def test_a_row_of_the_diagnosis_answers_where_it_holds_and_nowhere_else(each: Case) -> None:
    (finding,) = found(DIAGNOSIS, each.holds, each.row)
    assert each.number in finding.number
    assert found(DIAGNOSIS, each.not_for, each.row) == []


@pytest.mark.parametrize(
    ("table", "cases"), [(CHECKLIST, POINTS), (DIAGNOSIS, SYMPTOMS)], ids=["checklist", "diagnose"]
)
def test_every_row_has_a_case(table: Table, cases: tuple[Case, ...]) -> None:
    assert sorted(rows(table)) == sorted(each.row for each in cases)


def test_the_checklist_asks_the_eleven_points_in_order() -> None:
    assert [question.code for question in CHECKLIST] == [f"R{number}" for number in range(61, 72)]


def test_of_what_was_not_seen_nothing_passes() -> None:
    for table in (CHECKLIST, DIAGNOSIS):
        findings = judge(table, seen())
        assert {finding.verdict for finding in findings} == {Verdict.NOT_APPLICABLE}
        assert all(finding.number.startswith("needs ") for finding in findings)


@pytest.mark.parametrize("table", [CHECKLIST, DIAGNOSIS], ids=["checklist", "diagnose"])
def test_whatever_warns_or_fails_says_what_to_do_or_is_a_symptom(table: Table) -> None:
    symptoms = {"slower-than-target", "slow", "later-than-target", "late"}
    silent = {row.code for question in table for row in question.rows if not row.advice}
    bad = {code for code, verdict in verdicts(table).items() if verdict in (Verdict.WARN, Verdict.FAIL)}
    assert bad & silent <= symptoms


def test_no_advice_turns_prefix_caching_off() -> None:
    advice = [step for question in (*CHECKLIST, *DIAGNOSIS) for row in question.rows for step in row.advice]
    assert [step for step in advice if "no-enable-prefix-caching" in step and not step.startswith("remove ")] == []


def test_a_benchmark_says_what_it_measured() -> None:
    (speed,) = found(CHECKLIST, seen(bench=benched(40)), "decode")
    assert speed.number == "25.0 tokens/s per request, 2,000 in all (benchmark of 100 requests)"
    (first,) = found(DIAGNOSIS, seen(bench=benched(40)), "not-late")
    assert first.number == "half of 100 benchmarked requests within 0.10 s"


def test_the_numbers_of_vllm_are_quoted() -> None:
    (short,) = found(DIAGNOSIS, seen(journal=journal("context-too-long")), "cache-below-one-sequence")
    assert (
        short.advice[0] == "set serve_max_model_len to 34816 or less: vLLM's estimate for 4.25 GiB; it needs 16.0 GiB"
    )
    (taken,) = found(DIAGNOSIS, seen(journal=journal("gpu-memory-taken")), "memory-taken-at-start")
    assert "set serve_gpu_memory_utilization to 0.34" in taken.advice[-1]
    (full,) = found(DIAGNOSIS, seen(journal=(SUGGESTED, READY, OOM)), "memory-full-while-serving")
    assert full.advice[0].startswith("set kv-cache-memory-bytes to 42949672960 (40.00 GiB)")


def test_a_step_without_its_number_is_left_out() -> None:
    (full,) = found(DIAGNOSIS, seen(journal=(READY, OOM)), "memory-full-while-serving")
    assert [step for step in full.advice if "kv-cache-memory-bytes" in step] == []
    busy = slow(traffic=traffic(running=64, preemptions=12.0))
    (bare,) = found(DIAGNOSIS, busy, "preemption")
    assert "sequences fit at once" not in bare.advice[-1]


@pytest.mark.parametrize(
    "known",
    [{"forecast": forecast(9.04)}, {"traffic": traffic(preemptions=1.0, cache={"kv_cache_max_concurrency": "9.04"})}],
)
def test_a_preemption_names_how_many_sequences_fit(known: dict[str, object]) -> None:
    observation = slow(**{"traffic": traffic(preemptions=1.0), **known})
    (finding,) = found(DIAGNOSIS, observation, "preemption")
    assert finding.advice[-1] == "at full context 9.0 sequences fit at once"


@pytest.mark.parametrize(("requests", "verdict"), [(99, Verdict.NOT_APPLICABLE), (100, Verdict.PASS)])
def test_fewer_than_a_hundred_requests_tell_nothing_of_the_context(requests: int, verdict: Verdict) -> None:
    lengths = around(1000.0, requests)
    observation = seen(settings={"max-model-len": 4096}, traffic=traffic(prompt_tokens=lengths, output_tokens=lengths))
    assert next(f for f in judge(CHECKLIST, observation) if f.question == "R64").verdict is verdict


@pytest.mark.parametrize(
    ("verdicts_there", "expected"),
    [((), "n/a"), (("pass", "n/a"), "pass"), (("pass", "warn"), "warn"), (("warn", "fail", "pass"), "fail")],
)
def test_the_worst_verdict_counts(verdicts_there: tuple[str, ...], expected: str) -> None:
    made = [Finding(question="", title="", verdict=Verdict(verdict), number="") for verdict in verdicts_there]
    assert worst(made) == expected


def test_the_page_of_rules_is_the_tables() -> None:
    assert reference.PAGE.read_text() == reference.render()
