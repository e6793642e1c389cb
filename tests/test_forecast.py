"""The memory bill and the KV cache: against what real engines logged, and as a function that behaves."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rackhand.fitting.defaults import batch_defaults
from rackhand.fitting.forecast import forecast
from rackhand.fitting.terms import MEASURED, Device, Measured, Serving
from rackhand.fitting.weights import stage_layers
from rackhand.models.spec import Attention, LayerGroup, ModelSpec
from tests.specs import H200, L4, LLAMA_8B, LLAMA_13B, LLAMA_70B, T4, dense

EAGER = Serving(
    version="0.26.0",
    gpu_memory_utilization=0.92,
    max_num_seqs=128,
    max_num_batched_tokens=2048,
    max_model_len=8192,
    enforce_eager=True,
)


@pytest.mark.parametrize(
    ("spec", "serving", "logged"),
    [
        (LLAMA_8B, EAGER, 926_880),
        (LLAMA_13B, replace(EAGER, gpu_memory_utilization=0.90, max_model_len=4096), 132_448),
        (
            LLAMA_8B,
            replace(
                EAGER,
                gpu_memory_utilization=0.90,
                max_num_seqs=256,
                max_num_batched_tokens=8192,
                kv_cache_dtype="fp8",
                enforce_eager=False,
            ),
            1_793_328,
        ),
    ],
    ids=["8B eager", "13B eager", "8B compiled with an fp8 cache"],
)
def test_the_forecast_meets_what_an_h200_logged(spec: ModelSpec, serving: Serving, logged: int) -> None:
    assert forecast(spec, H200, serving).kv_tokens == pytest.approx(logged, rel=0.002)


def test_terms_that_vllm_charges_add_up_to_its_share() -> None:
    answer = forecast(LLAMA_8B, H200, EAGER)
    charged = sum(term.mib for term in answer.terms if term.name != "other_processes")
    assert charged == pytest.approx(answer.allowed_mib)
    assert [term.name for term in answer.terms] == [
        "weights",
        "activation",
        "cuda_graphs",
        "non_torch",
        "other_processes",
        "kv_cache",
    ]


def test_every_term_says_its_formula_and_its_source() -> None:
    assert all(term.formula and term.source for term in forecast(LLAMA_8B, H200, EAGER).terms)


def test_a_context_that_needs_more_than_is_there_is_refused_with_both_numbers_and_the_longest() -> None:
    answer = forecast(LLAMA_8B, L4, replace(EAGER, max_model_len=None, gpu_memory_utilization=0.9))
    assert answer.fits
    long = replace(LLAMA_8B, max_context=131_072)
    refused = forecast(long, L4, replace(EAGER, max_model_len=131_072))
    assert not refused.fits
    assert refused.reasons[0].code == "does-not-fit"
    assert "16.0 GiB for 131,072 tokens" in refused.reasons[0].what
    assert refused.reasons[0].next_step == f"set the context to at most {refused.max_context}"
    assert forecast(long, L4, replace(EAGER, max_model_len=refused.max_context)).fits
    assert not forecast(long, L4, replace(EAGER, max_model_len=refused.max_context + 16)).fits


def test_weights_that_alone_exceed_the_share_are_refused_with_the_difference() -> None:
    answer = forecast(LLAMA_8B, T4, EAGER)
    assert not answer.fits
    assert answer.kv_tokens == 0
    assert "more than T4 is allowed" in answer.reasons[0].what


def test_memory_that_others_hold_refuses_the_start_only_when_the_share_is_not_free() -> None:
    shared = replace(H200, free_mib=120_000)
    assert forecast(LLAMA_8B, shared, replace(EAGER, gpu_memory_utilization=0.80)).fits
    refused = forecast(LLAMA_8B, shared, EAGER)
    assert [reason.code for reason in refused.reasons] == ["memory-in-use"]
    assert refused.reasons[0].next_step.endswith("at most 0.83")
    assert refused.mib("other_processes") == 23_155


def test_all_reasons_are_given_at_once() -> None:
    answer = forecast(LLAMA_8B, replace(T4, free_mib=1000), replace(EAGER, max_model_len=100_000))
    assert [reason.code for reason in answer.reasons] == ["memory-in-use", "context-over-model", "does-not-fit"]


def test_a_forced_cache_size_replaces_the_share() -> None:
    answer = forecast(LLAMA_8B, H200, replace(EAGER, kv_cache_bytes=1 << 30))
    assert answer.kv_tokens == 8192
    assert answer.sequences == 1


def test_a_forced_cache_size_is_held_against_the_card_and_against_what_is_free() -> None:
    forced = replace(EAGER, kv_cache_bytes=200 << 30)
    (reason,) = forecast(LLAMA_8B, H200, forced).reasons
    assert reason.code == "bad-option"
    most = int(reason.next_step.split()[5].rstrip(","))
    assert forecast(LLAMA_8B, H200, replace(EAGER, kv_cache_bytes=most)).fits
    assert not forecast(LLAMA_8B, H200, replace(EAGER, kv_cache_bytes=most + (2 << 20))).fits
    # vLLM asks for its share before it looks at the size of the cache.
    crowded = forecast(LLAMA_8B, replace(H200, free_mib=120_000), replace(EAGER, kv_cache_bytes=1 << 30))
    assert [reason.code for reason in crowded.reasons] == ["memory-in-use"]


def test_tensor_parallel_ranks_share_weights_and_heads() -> None:
    one, two = (forecast(LLAMA_70B, H200, replace(EAGER, tensor_parallel_size=ranks)) for ranks in (1, 2))
    assert not one.fits
    assert two.fits
    assert two.mib("weights") == pytest.approx(one.mib("weights") / 2, rel=0.01)
    assert two.mib("non_torch") > one.mib("non_torch")


def test_more_ranks_than_key_value_heads_repeat_them() -> None:
    many = replace(LLAMA_8B, kv_heads=2, groups=(replace(LLAMA_8B.groups[0], kv_heads=2),))
    pages = [forecast(many, H200, replace(EAGER, tensor_parallel_size=ranks)).terms[-1].formula for ranks in (2, 4)]
    sizes = [words.split(" of ")[1].split(" bytes")[0] for words in pages]
    assert sizes[0] == sizes[1]


def test_pipeline_stages_hold_their_own_layers_and_the_tightest_decides() -> None:
    answer = forecast(LLAMA_70B, H200, replace(EAGER, pipeline_parallel_size=2))
    assert answer.fits
    assert answer.mib("weights") < LLAMA_70B.weight_bytes / (1 << 20) * 0.55


@pytest.mark.parametrize(
    ("layers", "stages", "sizes"), [(80, 2, [40, 40]), (61, 4, [15, 15, 16, 15]), (32, 3, [11, 11, 10]), (5, 1, [5])]
)
def test_layers_left_over_go_before_the_last_stage(layers: int, stages: int, sizes: list[int]) -> None:
    assert stage_layers(layers, stages) == sizes


def test_online_fp8_halves_linear_weights_only() -> None:
    plain, quantised = (forecast(LLAMA_8B, H200, replace(EAGER, quantization=q)) for q in (None, "fp8"))
    linear = sum(part.bytes for part in LLAMA_8B.parts if part.linear) / (1 << 20)
    assert plain.mib("weights") - quantised.mib("weights") == pytest.approx(linear / 2)


def test_an_fp8_cache_holds_twice_the_tokens() -> None:
    plain, small = (forecast(LLAMA_8B, H200, replace(EAGER, kv_cache_dtype=kind)).kv_tokens for kind in ("auto", "fp8"))
    assert small == pytest.approx(2 * plain, rel=0.001)


def test_windows_hold_their_last_tokens_only() -> None:
    full = LayerGroup(attention=Attention.FULL, layers=8, kv_heads=8, key_size=128, value_size=128)
    window = replace(full, attention=Attention.SLIDING, layers=40, window=1024)
    hybrid = replace(LLAMA_8B, layers=48, groups=(full, window), max_context=131_072)
    plain = replace(hybrid, groups=(replace(full, layers=48),))
    long = replace(EAGER, max_model_len=131_072)
    assert forecast(hybrid, H200, long).kv_tokens > 4 * forecast(plain, H200, long).kv_tokens


def test_terms_that_were_measured_replace_formulas() -> None:
    answer = forecast(LLAMA_8B, H200, EAGER, Measured(weights_mib=20_000, activation_mib=1000))
    assert answer.mib("weights") == 20_000
    assert answer.mib("activation") == 1000
    assert answer.terms[0].source == MEASURED


@pytest.mark.parametrize(
    ("device", "expected"),
    [
        (H200, (1024, 8192)),
        (L4, (256, 2048)),
        (Device(card="A100 SXM4 80GB", capability=(8, 0), total_mib=81_000), (256, 2048)),
    ],
)
def test_batch_defaults_depend_on_the_card(device: Device, expected: tuple[int, int]) -> None:
    assert batch_defaults("0.26.0", device, 8192) == expected


def test_releases_that_count_what_left_the_free_memory_charge_the_batch_buffers_too() -> None:
    parts, total = (forecast(LLAMA_8B, H200, replace(EAGER, version=each)) for each in ("0.26.0", "0.27.1"))
    # 0.26.0's own counters on an H200: 85 MiB more left the free memory than it charged.
    assert total.mib("activation") - parts.mib("activation") == pytest.approx(85, abs=45)
    assert "batch buffers" in total.terms[1].formula


models = st.builds(
    dense,
    st.just("random"),
    layers=st.integers(1, 120),
    hidden=st.sampled_from([512, 2048, 4096, 8192]),
    intermediate=st.integers(512, 30_000),
    vocab=st.integers(300, 300_000),
    heads=st.sampled_from([8, 16, 32, 64]),
    kv_heads=st.sampled_from([1, 2, 4, 8]),
    context=st.integers(16, 1_000_000),
)
servings = st.builds(
    Serving,
    version=st.just("0.26.0"),
    gpu_memory_utilization=st.floats(0.1, 1.0),
    max_num_seqs=st.integers(1, 2048),
    max_num_batched_tokens=st.integers(16, 65_536),
    max_model_len=st.none() | st.integers(1, 1_000_000),
    tensor_parallel_size=st.sampled_from([1, 2, 4, 8]),
    pipeline_parallel_size=st.integers(1, 4),
    kv_cache_dtype=st.sampled_from(["auto", "fp8", "bfloat16"]),
    quantization=st.sampled_from([None, "fp8"]),
    enforce_eager=st.booleans(),
)
devices = st.builds(
    Device,
    card=st.just("random"),
    capability=st.just((9, 0)),
    total_mib=st.integers(1000, 400_000),
    free_mib=st.none() | st.integers(0, 400_000),
)


@given(models, devices, servings, st.integers(1, 100_000))
@settings(deadline=None)
def test_more_memory_never_holds_less(spec: ModelSpec, device: Device, serving: Serving, more: int) -> None:
    larger = replace(device, total_mib=device.total_mib + more, free_mib=None)
    small, large = (forecast(spec, item, serving) for item in (replace(device, free_mib=None), larger))
    assert large.kv_tokens >= small.kv_tokens
    assert large.max_context >= small.max_context
    assert large.fits or not small.fits


@given(models, devices, servings)
@settings(deadline=None)
def test_a_plan_that_fits_never_exceeds_the_memory(spec: ModelSpec, device: Device, serving: Serving) -> None:
    answer = forecast(spec, device, serving)
    charged = sum(term.mib for term in answer.terms if term.name != "other_processes")
    if answer.fits:
        assert charged <= device.total_mib * serving.gpu_memory_utilization + 1
        assert answer.context <= answer.max_context
        assert answer.kv_tokens >= answer.context or answer.sequences >= 1
    else:
        assert answer.reasons
