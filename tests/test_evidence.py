"""What was measured on real GPUs stays true: every change of the arithmetic is held against it."""

import json
from typing import Any

import pytest

from benchmarks import fit, presets
from tests.error_codes import ROOT

EVIDENCE = ROOT / "docs/evidence"
FILES = sorted(EVIDENCE.glob("fit-*.json"))


def evidence(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((EVIDENCE / name).read_text())
    return found


@pytest.mark.parametrize("name", [file.name for file in FILES])
def test_forecasts_meet_what_vllm_reported_on_a_real_gpu(name: str) -> None:
    compared = fit.compare(evidence(name))
    median, worst, wrong = fit.verdict(compared)
    assert sum(each.error is not None for each in compared) >= 10
    assert median < 0.001
    assert worst < 0.015
    assert wrong == []


def test_what_vllm_refused_is_refused_with_its_own_longest_context() -> None:
    compared = {each.run["name"]: each for each in fit.compare(evidence("fit-h200-0.26.0.json"))}
    refused = compared["refuse-kv-llama3.1-8b-128k"]
    assert not refused.started
    assert "estimated maximum model length is 129792" in refused.run["reported"]["error"]
    assert refused.forecast.max_context == pytest.approx(129_792, rel=0.02)
    assert refused.forecast.max_context <= 129_792
    assert not compared["refuse-weights-llama3.1-70b"].forecast.fits


def test_the_forecasts_made_before_anything_was_measured_were_within_bounds_too() -> None:
    compared = fit.compare(evidence("fit-h200-0.26.0.json"))
    before = [abs(each.error_before) for each in compared if each.error_before is not None]
    assert len(before) == 37
    assert max(before) < 0.02


@pytest.mark.parametrize("page", ["fit-h200-0.26.0", "presets-h200-0.26.0"])
def test_the_page_shows_the_table_of_its_figures(page: str) -> None:
    tables = {"fit": fit.table, "presets": presets.table}
    lines = list(tables[page.partition("-")[0]](evidence(f"{page}.json")))
    assert "\n".join(lines) in (EVIDENCE / f"{page}.md").read_text()


def test_presets_earn_their_names() -> None:
    runs = {run["name"]: run["results"] for run in evidence("presets-h200-0.26.0.json")["runs"]}
    long, answers, one, eight = "long prompts, 512 users", "long answers, 512 users", "1 user", "8 users"
    for workload in (long, answers):
        base = max(
            runs[name][workload]["output_throughput"] for name in ("default", "default-again") if workload in runs[name]
        )
        assert runs["fp8-kv8"][workload]["output_throughput"] >= 1.2 * base
    for workload in (one, eight):
        base = min(runs[name][workload]["median_tpot_ms"] for name in ("default", "default-again"))
        assert runs["fp8"][workload]["median_tpot_ms"] < 0.75 * base


def test_the_page_of_a_whole_deploy_on_a_real_gpu_shows_what_its_reports_say() -> None:
    told, page = evidence("capstone-h200.json"), (EVIDENCE / "capstone-h200.md").read_text()
    for run in told["runs"]:
        [host] = run["report"]["hosts"]
        seconds = [f"{(host['turn'] or {}).get(name) or 0:.1f}" for name in ("start_s", "out_s", "back_s")]
        cells = [
            host["status"],
            f"{run['report']['seconds']:.1f}",
            *("-" if each == "0.0" else each for each in seconds),
        ]
        assert f"| {run['lease']} | {run['what']} | {' | '.join(cells)} | {host['ssh_commands']} |" in page
    orders = [
        (row["verdict"], row["code"]) for row in told["ledgers"]["2"] if row.get("verdict") not in (None, "begun")
    ]
    assert orders == [("accepted", ""), ("restored", "engine-died"), ("restored", "gate-timeout")]
