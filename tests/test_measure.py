"""After each start the truth is read, kept on the host, shown and used by the next plan, and restarts nothing."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rackhand import operations
from rackhand.errors import RackhandError
from rackhand.outcome import HostStatus
from rackhand.plan import Instance
from tests.paper import Deploy, PaperHost, Result, run_of
from tests.surveys import CONFIG

CARD = "rtx4090"
# A model that knows more tokens than the card holds.
LONG: dict[str, Any] = {"serve_max_model_len": "auto", "config": {**CONFIG, "max_position_embeddings": 131_072}}


@pytest.fixture
def deploy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Deploy]:
    yield Deploy(monkeypatch, tmp_path)
    operations.current_run.cache_clear()


def says(tokens: int, **other: Any) -> dict[str, Any]:
    return {"device": "gpu", "kv_tokens": tokens, "context": 8192, **other}


def planned(host: PaperHost) -> Instance:
    plan = run_of(host).plan
    assert plan is not None
    return plan.instances[0]


def tokens(host: PaperHost) -> int:
    forecast = planned(host).forecast
    assert forecast is not None
    return forecast.kv_tokens


def emitted(host: PaperHost) -> dict[str, Any]:
    return {setting.name: setting.value for setting in planned(host).settings}


def predicted(deploy: Deploy, **wished: Any) -> int:
    """Return what is predicted of a host that serves nothing yet."""
    host = PaperHost(cards=(CARD,))
    deploy({"a": host}, "--dry", **wished)
    return tokens(host)


def started(deploy: Deploy, factor: float, **wished: Any) -> tuple[PaperHost, Result]:
    """Deploy to a host whose engine reports so much of the predicted tokens."""
    host = PaperHost(cards=(CARD,), says=says(int(predicted(deploy, **wished) * factor) // 16 * 16))
    result = deploy({"a": host}, "-y", **wished)
    assert result.status is None, result.said
    return host, result


def test_a_good_forecast_is_shown_and_stands_in_release_and_ledger(deploy: Deploy) -> None:
    host, result = started(deploy, 0.99)
    memory = result.host("a").instances[0].memory
    assert memory is not None
    assert (memory.reported_tokens, memory.predicted_tokens) == (host.says["kv_tokens"], tokens(host))
    assert memory.words in result.said
    assert result.host("a").warnings == ()
    (record,) = host.facts["state"]["measured"]
    assert record["release"] == host.facts["state"]["current"]
    assert record["predicted_tokens"] == tokens(host)
    assert record["reported"]["kv_tokens"] == host.says["kv_tokens"]
    noted = next(line for line in host.ledger if line["step"] == "measured")
    assert noted["memory"]["llama-0"]["kv_tokens"] == host.says["kv_tokens"]
    assert noted["memory"]["llama-0"]["predicted"] == tokens(host)


def test_a_forecast_that_was_off_is_a_warning_and_the_host_is_healthy(deploy: Deploy) -> None:
    _, result = started(deploy, 0.8)
    found = result.host("a")
    assert [warning.code for warning in found.warnings] == ["forecast-off"]
    assert "+25.0 %" in found.warnings[0].what
    assert found.status is HostStatus.HEALTHY
    assert "[forecast-off]" in result.said


@pytest.mark.parametrize(("wished", "factor"), [({}, 0.8), ({}, 1.2), (LONG, 0.96), (LONG, 1.0), (LONG, 1.2)])
def test_the_next_plan_is_made_with_what_was_reported_and_changes_nothing(
    deploy: Deploy, wished: dict[str, Any], factor: float
) -> None:
    host, _ = started(deploy, factor, **wished)
    before, settings = host.facts["state"]["current"], emitted(host)
    assert {"max-model-len", "max-num-seqs"} >= set(settings)
    assert settings
    again = deploy({"a": host}, "-y", **wished)
    assert again.host("a").status is HostStatus.UNCHANGED
    assert host.changing == []
    assert host.facts["state"]["current"] == before
    assert tokens(host) == host.says["kv_tokens"]
    assert emitted(host) == settings
    assert "as engines reported here" in " ".join(again.host("a").plan)
    assert again.host("a").warnings == ()
    memory = again.host("a").instances[0].memory
    assert memory is not None
    assert memory.reported_tokens == host.says["kv_tokens"]


def test_an_engine_that_runs_and_was_never_asked_is_asked_once(deploy: Deploy) -> None:
    host, _ = started(deploy, 1.0)
    host.facts["state"]["measured"] = []
    result = deploy({"a": host}, "-y")
    assert result.host("a").status is HostStatus.UNCHANGED
    assert host.changing == ["measured.keep"]
    assert host.ledger[-1]["step"] == "measured"
    deploy({"a": host}, "-y")
    assert host.changing == []


def test_an_engine_on_a_cpu_is_recorded_and_never_judged(deploy: Deploy) -> None:
    host = PaperHost(cards=(CARD,), says={**says(2_097_152), "device": "cpu"})
    result = deploy({"a": host}, "-y")
    assert result.host("a").warnings == ()
    assert host.facts["state"]["measured"][0]["reported"]["kv_tokens"] == 2_097_152
    deploy({"a": host}, "-y")
    assert host.changing == []
    assert tokens(host) == predicted(deploy)


def test_a_report_that_cannot_be_written_down_is_a_warning_and_the_engine_serves(deploy: Deploy) -> None:
    full = RackhandError("disk-full", "no space left on device", "a", "free some")
    host = PaperHost(cards=(CARD,), says=says(100_000), fails={"measured.keep": full})
    result = deploy({"a": host}, "-y")
    assert result.status is None, result.said
    assert "disk-full" in [warning.code for warning in result.host("a").warnings]
    assert result.host("a").status is HostStatus.HEALTHY
    assert [line for line in host.ledger if line["step"] == "measured"] == []


def test_what_was_fitted_by_numbers_is_not_planned_anew_without_them(deploy: Deploy) -> None:
    host, _ = started(deploy, 1.0)
    result = deploy({"a": host}, "-y", config={})
    assert [problem.code for problem in result.host("a").problems] == ["model-forgotten"]
    assert host.changing == []
    unknown = PaperHost(cards=(CARD,), says=says(100_000))
    assert deploy({"a": unknown}, "-y", config={}).status is None
    assert deploy({"a": unknown}, "-y", config={}).host("a").status is HostStatus.UNCHANGED


@pytest.mark.parametrize("preset", ["cost", "long-context"])
def test_a_passing_process_of_somebody_else_restarts_no_engine(deploy: Deploy, preset: str) -> None:
    host, _ = started(deploy, 1.0, serve_preset=preset)
    settings = emitted(host)
    assert "gpu-memory-utilization" in settings
    (gpu,) = host.facts["nvml"]["gpus"]
    gpu["processes"] = [{"pid": 9, "mib": 700, "unit": "session-3.scope"}]
    gpu["free_mib"] = gpu["memory_mib"] - gpu["reserved_mib"] - 700
    again = deploy({"a": host}, "-y", serve_preset=preset)
    assert again.host("a").status is HostStatus.UNCHANGED
    assert (host.changing, emitted(host)) == ([], settings)
    gpu["free_mib"] -= 5_000
    assert [each.code for each in deploy({"a": host}, "-y", serve_preset=preset).host("a").problems] == [
        "memory-in-use"
    ]


def test_an_engine_that_says_nothing_disturbs_nobody(deploy: Deploy) -> None:
    host = PaperHost(cards=(CARD,))
    assert deploy({"a": host}, "-y").host("a").warnings == ()
    assert deploy({"a": host}, "-y").host("a").status is HostStatus.UNCHANGED
    assert host.changing == []


def test_a_new_release_that_would_hold_less_says_so_with_both_numbers_before_the_switch(deploy: Deploy) -> None:
    host, _ = started(deploy, 1.0)
    held = host.says["kv_tokens"]
    said = " ".join(deploy({"a": host}, "--dry", serve_gpu_memory_utilization=0.85).host("a").plan)
    assert f"will hold {tokens(host):,} tokens; those of the running release reported {held:,}" in said
    assert "the context becomes" not in said
    said = " ".join(deploy({"a": host}, "--dry", serve_max_model_len=4096).host("a").plan)
    assert "the context becomes 4,096 tokens; the running release has 8,192" in said
    assert "will hold" not in said
    said = " ".join(deploy({"a": host}, "--dry", serve_gpu_memory_utilization=0.95).host("a").plan)
    assert "running release" not in said


def test_the_switch_itself_says_what_it_takes_away(deploy: Deploy) -> None:
    host, first = started(deploy, 1.0)
    assert "running release" not in first.said
    result = deploy({"a": host}, "-y", serve_max_model_len=4096)
    switch = next(step for step in result.host("a").steps if step.name.startswith("Switch | "))
    assert switch.summary.endswith("; the context becomes 4,096 tokens; the running release has 8,192")


def test_what_does_not_fit_by_measured_terms_is_refused_before_anything_changes(deploy: Deploy) -> None:
    host, _ = started(deploy, 0.1, serve_max_model_len=1024)
    assert predicted(deploy, serve_max_model_len=8192) > 8192
    result = deploy({"a": host}, "-y", serve_max_model_len=8192)
    assert [problem.code for problem in result.host("a").problems] == ["does-not-fit"]
    assert host.changing == []


def test_engines_are_not_moved_because_somebody_crowds_one_of_them(deploy: Deploy) -> None:
    host = PaperHost(cards=(CARD, CARD), says=says(40_000))
    assert deploy({"a": host}, "-y").status is None
    first = host.facts["nvml"]["gpus"][0]
    ours = {"pid": 7, "mib": 20_000, "unit": "vllm@llama-0.service"}
    first["processes"] = [ours, {"pid": 9, "mib": 1_700, "unit": "session-3.scope"}]
    first["free_mib"] = first["memory_mib"] - first["reserved_mib"] - 21_700
    again = deploy({"a": host}, "-y")
    assert [problem.code for problem in again.host("a").problems] == ["memory-in-use"]
    assert host.changing == []
    assert "1,700 MiB" in again.host("a").problems[0].what
    # Who stopped that engine wants the others moved.
    first["processes"] = first["processes"][1:]
    first["free_mib"] += 20_000
    assert deploy({"a": host}, "-y").status is None
