"""What engines report is held against the forecast, and an engine of the same class is planned by what was reported."""

from dataclasses import replace
from typing import Any

import pytest

from rackhand import truth
from rackhand.fitting.forecast import forecast
from rackhand.fitting.known import Basis, Known, Measurement, Past, Reported, kept, known, measured_for, readable
from rackhand.fitting.terms import Device, Serving
from rackhand.models.spec import ModelSpec
from rackhand.serving.choose import choose
from rackhand.serving.terms import Ask, Case, Choice, Ranks
from tests.specs import H200, L4, LLAMA_8B, LLAMA_13B, LLAMA_70B

EAGER = Serving(
    version="0.26.0",
    gpu_memory_utilization=0.92,
    max_num_seqs=128,
    max_num_batched_tokens=2048,
    max_model_len=8192,
    enforce_eager=True,
)
# Read off an NVIDIA H200: vLLM 0.26.0, Llama 3 8B.
SAID = Reported(
    device="gpu",
    allowed_mib=131_702.6,
    weights_mib=15_360.0,
    activation_mib=245.8,
    non_torch_mib=225.3,
    available_kv_mib=115_865.6,
    kv_tokens=926_880,
    concurrency=113.14,
)


def measurement(predicted: int | None = 926_928, said: Reported = SAID, **other: Any) -> Measurement:
    terms = (("weights", 15_362.0), ("activation", 250.0), ("non_torch", 225.0), ("kv_cache", 115_871.0))
    values: dict[str, Any] = {"predicted": terms, "predicted_tokens": predicted, **other}
    return Measurement(name="llama-0", config="c0", model="llama@1", reported=said, **values)


@pytest.mark.parametrize(
    ("predicted", "said", "percent", "off", "words"),
    [
        (926_928, SAID, 0.01, False, "KV cache 926,880 tokens, predicted 926,928, +0.0 %"),
        (973_000, SAID, 4.98, False, "KV cache 926,880 tokens, predicted 973,000, +5.0 %"),
        (974_000, SAID, 5.08, True, "KV cache 926,880 tokens, predicted 974,000, +5.1 %"),
        (870_000, SAID, -6.14, True, "KV cache 926,880 tokens, predicted 870,000, -6.1 %"),
        (None, SAID, None, False, "KV cache 926,880 tokens, not compared"),
        (9_000, replace(SAID, device="cpu"), None, False, "KV cache 926,880 tokens on a CPU, not compared"),
        (9_000, replace(SAID, device=""), None, False, "KV cache 926,880 tokens, not compared"),
        (9_000, Reported(device="gpu"), None, False, "the engine did not say how many tokens its KV cache holds"),
    ],
)
def test_above_five_percent_a_forecast_is_off_and_only_a_gpu_is_judged(
    predicted: int | None, said: Reported, percent: float | None, off: bool, words: str
) -> None:
    found = truth.compare(measurement(predicted, said))
    assert (found.percent, found.off, found.words) == (percent, off, words)
    assert (truth.warning("gpu-1 vllm@llama-0", found) is not None) is off


def test_the_warning_names_the_term_that_differs_most_and_asks_for_nothing() -> None:
    said = replace(SAID, kv_tokens=800_000, activation_mib=16_000.0)
    problem = truth.warning("gpu-1 vllm@llama-0", truth.compare(measurement(said=said)))
    assert problem is not None
    assert problem.code == "forecast-off"
    assert problem.what == ("KV cache 800,000 tokens, predicted 926,928, +15.9 %; activation 16,000 MiB, predicted 250")
    assert problem.next_step.startswith("nothing has to be done")


def test_what_the_log_does_not_split_is_compared_as_the_rest_of_what_the_engine_was_allowed() -> None:
    said = replace(SAID, activation_mib=None, non_torch_mib=None, graphs_charged_mib=100.0)
    rest = next(each for each in truth.compare(measurement(said=said)).terms if each.name == truth.TOGETHER)
    assert rest.predicted_mib == 475.0
    assert rest.reported_mib == pytest.approx(131_702.6 - 15_360 - 115_865.6 - 100, abs=0.1)


def test_newer_versions_say_weights_and_the_rest_in_one_sum() -> None:
    said = replace(SAID, non_torch_mib=None, consumed_mib=15_590.0)
    assert said.outside_torch_mib == pytest.approx(230)
    assert Reported(consumed_mib=15_590.0).outside_torch_mib is None


def past(
    serving: Serving = EAGER, device: Device = H200, said: Reported = SAID, running: bool = True, **other: Any
) -> Past:
    basis = Basis(device=device, serving=serving, **{"decided": "d", **other})
    return Past(basis=basis, reported=said, running=running)


@pytest.mark.parametrize(
    ("spec", "device", "serving"),
    [
        (LLAMA_8B, H200, EAGER),
        (LLAMA_8B, L4, replace(EAGER, max_model_len=None)),
        (LLAMA_13B, H200, replace(EAGER, max_model_len=4096, gpu_memory_utilization=0.5)),
        (LLAMA_70B, H200, replace(EAGER, tensor_parallel_size=4, max_model_len=None)),
        (LLAMA_70B, H200, replace(EAGER, pipeline_parallel_size=2, max_model_len=32_768)),
        (LLAMA_8B, H200, replace(EAGER, enforce_eager=False, kv_cache_dtype="fp8")),
    ],
)
@pytest.mark.parametrize("factor", [0.7, 0.999, 1.0, 1.0003, 1.2])
def test_measured_terms_give_exactly_the_reported_tokens(
    spec: ModelSpec, device: Device, serving: Serving, factor: float
) -> None:
    predicted = forecast(spec, device, serving)
    tokens = int(predicted.kv_tokens * factor) // 16 * 16
    said = Reported(device="gpu", kv_tokens=tokens, weights_mib=round(predicted.mib("weights") + 5, 1))
    terms = measured_for((past(serving, device, said),), spec, device, serving)
    again = forecast(spec, device, serving, terms)
    assert again.kv_tokens == tokens
    assert again.fits == (tokens >= predicted.context)


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"gpu_memory_utilization": 0.8}, True),
        ({"max_model_len": 4096}, True),
        ({"version": "0.27.0"}, False),
        ({"tensor_parallel_size": 2}, False),
        ({"pipeline_parallel_size": 2}, False),
        ({"dtype": "float16"}, False),
        ({"quantization": "fp8"}, False),
        ({"kv_cache_dtype": "fp8"}, False),
        ({"enforce_eager": False}, False),
        ({"max_num_batched_tokens": 4096}, False),
        ({"max_num_seqs": 64}, True),
    ],
)
def test_only_the_same_class_is_planned_by_what_was_measured(change: dict[str, Any], same: bool) -> None:
    found = measured_for((past(),), LLAMA_8B, H200, replace(EAGER, **change))
    assert (found is not None) is same
    assert measured_for((past(),), LLAMA_8B, L4, EAGER) is None


def test_an_engine_on_a_cpu_says_nothing_about_gpus() -> None:
    assert measured_for((past(said=replace(SAID, device="cpu")),), LLAMA_8B, H200, EAGER) is None


def test_of_several_reports_the_running_release_counts_and_there_the_least() -> None:
    def said(tokens: int) -> Reported:
        return replace(SAID, kv_tokens=tokens)

    found = (
        past(said=said(800_000), running=False),
        past(said=said(900_000)),
        past(said=said(890_000)),
    )
    assert forecast(LLAMA_8B, H200, EAGER, measured_for(found, LLAMA_8B, H200, EAGER)).kv_tokens == 890_000
    assert forecast(LLAMA_8B, H200, EAGER, measured_for(found[:1], LLAMA_8B, H200, EAGER)).kv_tokens == 800_000


def test_records_that_cannot_be_read_and_other_models_are_left_out() -> None:
    good = {"name": "a", "config": "c", "model": "llama@1", "reported": {"device": "gpu", "later": 1}}
    basis = {
        "device": {"card": "L4", "capability": [8, 9], "total_mib": 1},
        "decided": "d",
        "fit": [["max-num-seqs", 8]],
    }
    serving = {"version": "0.26.0", "gpu_memory_utilization": 0.9, "max_num_seqs": 8, "max_num_batched_tokens": 16}
    whole = {**good, "basis": {**basis, "serving": serving}}
    records = readable([{}, "text", {**good, "basis": {**basis, "serving": {"version": 3}}}, good, whole])
    assert len(records) == 2
    assert [each.basis.fit for each in known(records, "llama@1")] == [(("max-num-seqs", 8),)]
    assert known(records, "llama@2") == ()
    assert readable(None) == ()


def case(device: Device, past: Known = (), spec: ModelSpec = LLAMA_8B, **asked: Any) -> Case:
    return Case(spec=spec, device=device, ask=Ask(**{"version": "0.26.0", **asked}), ranks=Ranks(), known=past)


def after(choice: Choice, factor: float) -> Known:
    """Return what is known after such an instance ran and reported another number of tokens than predicted."""
    said = replace(SAID, kv_tokens=int(choice.forecast.kv_tokens * factor) // 16 * 16, weights_mib=None)
    return (Past(basis=choice.basis, reported=replace(said, activation_mib=None, non_torch_mib=None), running=True),)


@pytest.mark.parametrize("factor", [0.8, 0.95, 0.9999, 1.0, 1.0001, 1.3])
@pytest.mark.parametrize(
    "asked", [{"max_model_len": "auto"}, {}, {"max_model_len": 4096}, {"preset": "long-context"}], ids=str
)
@pytest.mark.parametrize("device", [L4, H200], ids=lambda device: device.card)
@pytest.mark.parametrize("spec", [LLAMA_8B, replace(LLAMA_8B, max_context=131_072)], ids=["8k", "128k"])
def test_a_second_plan_changes_no_setting_whatever_was_reported(
    spec: ModelSpec, device: Device, asked: dict[str, Any], factor: float
) -> None:
    first = choose(case(device, spec=spec, **asked))
    reported = after(first, factor)
    again = choose(case(device, reported, spec=spec, **asked))
    holds = int(first.forecast.kv_tokens * factor) // 16 * 16
    if first.forecast.fits and holds >= first.forecast.context:
        assert [(each.name, each.value) for each in again.settings] == [
            (each.name, each.value) for each in first.settings
        ]
        assert again.forecast.kv_tokens == holds
        assert choose(case(device, after(again, 1.0), spec=spec, **asked)).settings == again.settings


@pytest.mark.parametrize("ranks", [Ranks(), Ranks(pipeline=2)], ids=["one stage", "two stages"])
def test_what_runs_with_room_for_just_one_sequence_still_fits(ranks: Ranks) -> None:
    asked = replace(case(L4, spec=LLAMA_8B), ranks=ranks)
    first = choose(asked)
    just = replace(first, forecast=replace(first.forecast, kv_tokens=first.forecast.context))
    again = choose(replace(asked, known=after(just, 1.0)))
    assert again.forecast.fits
    assert again.forecast.kv_tokens == first.forecast.context


def test_a_context_to_fit_is_chosen_anew_where_the_user_decided_otherwise() -> None:
    long = replace(LLAMA_8B, max_context=131_072)
    first = choose(case(L4, spec=long, max_model_len="auto"))
    reported = after(first, 0.9)
    more = choose(case(L4, reported, spec=long, max_model_len="auto", gpu_memory_utilization=0.95))
    assert more.forecast.context > first.forecast.context
    assert kept(reported, L4, first.basis.decided) == (first.basis.fit,)
    assert kept(reported, L4, more.basis.decided) == ()


def test_a_context_that_was_forecast_and_is_not_there_in_truth_is_refused_by_measured_terms() -> None:
    first = choose(case(L4, max_model_len=4096))
    truly = after(first, 0.15)
    assert choose(case(L4, truly, max_model_len=4096)).basis.fit == first.basis.fit
    assert choose(case(L4, max_model_len=8192)).forecast.fits
    refused = choose(case(L4, truly, max_model_len=8192)).forecast
    assert [problem.code for problem in refused.reasons] == ["does-not-fit"]


def test_with_another_number_of_sequences_a_report_still_corrects_the_forecast() -> None:
    said = replace(SAID, kv_tokens=800_000)
    fewer = replace(EAGER, max_num_seqs=64)
    found = forecast(LLAMA_8B, H200, fewer, measured_for((past(said=said),), LLAMA_8B, H200, fewer))
    assert 800_000 <= found.kv_tokens < 805_000
