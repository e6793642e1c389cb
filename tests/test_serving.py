"""What a preset and the user's options make of one instance: every setting differs from vLLM's default for a reason."""

from dataclasses import replace
from typing import Any

import pytest

from rackhand.catalog import check_options, engine
from rackhand.catalog.serving import Preset, serving_book
from rackhand.catalog.vllm_options import option_table
from rackhand.fitting.defaults import batch_defaults
from rackhand.fitting.terms import Device
from rackhand.models.spec import ModelSpec
from rackhand.serving.choose import choose
from rackhand.serving.resolve import dtype
from rackhand.serving.terms import Ask, Case, Choice, Ranks
from tests.specs import H200, L4, LLAMA_8B, LLAMA_13B, LLAMA_70B, T4

A10G = Device(card="A10G", capability=(8, 6), total_mib=22_731)
RTX_4090 = Device(card="RTX 4090", capability=(8, 9), total_mib=24_080)
A100 = Device(card="A100 SXM4 80GB", capability=(8, 0), total_mib=81_038)
H100 = Device(card="H100 SXM5 80GB", capability=(9, 0), total_mib=81_079)
B200 = Device(card="B200", capability=(10, 0), total_mib=182_642)
CARDS = (T4, A10G, L4, RTX_4090, A100, H100, H200, B200)
MODELS = (LLAMA_8B, LLAMA_13B, LLAMA_70B)
VERSION = "0.33.0"


def chosen(device: Device, spec: ModelSpec = LLAMA_8B, ranks: Ranks | None = None, **asked: Any) -> Choice:
    asked = {"version": VERSION, **asked}
    return choose(Case(spec=spec, device=device, ask=Ask(**asked), ranks=ranks or Ranks()))


def values(choice: Choice) -> dict[str, Any]:
    return {setting.name: setting.value for setting in choice.settings}


def default(device: Device, spec: ModelSpec, name: str) -> Any:
    """Return what vLLM takes where nothing is said."""
    sequences, tokens = batch_defaults(VERSION, device, spec.max_context)
    known = {
        "max-num-seqs": sequences,
        "max-num-batched-tokens": tokens,
        "max-model-len": spec.max_context,
        "gpu-memory-utilization": engine(VERSION).gpu_memory_utilization,
    }
    return known[name] if name in known else option_table(VERSION).names[name].default


@pytest.mark.parametrize("preset", Preset)
@pytest.mark.parametrize("device", CARDS, ids=lambda device: device.card)
@pytest.mark.parametrize("spec", MODELS, ids=lambda spec: spec.name)
@pytest.mark.parametrize("allowed", [True, False])
def test_every_setting_of_every_preset_is_known_to_vllm_and_differs_from_its_default_for_a_reason(
    preset: Preset, device: Device, spec: ModelSpec, allowed: bool
) -> None:
    choice = chosen(device, spec, preset=preset, allow_fp8=allowed, allow_fp8_cache=allowed)
    names = [setting.name for setting in choice.settings]
    assert len(names) == len(set(names))
    assert check_options(VERSION, values(choice)) == []
    for setting in choice.settings:
        assert setting.value != default(device, spec, setting.name)
        assert len(setting.reason) > 20
        assert setting.origin in ("preset", "fit")


@pytest.mark.parametrize(
    ("device", "preset", "expected"),
    [
        (T4, "throughput", {}),
        (A10G, "throughput", {"max-num-seqs": 128}),
        (A100, "throughput", {}),
        (L4, "throughput", {"quantization": "fp8", "kv-cache-dtype": "fp8"}),
        (H200, "throughput", {"quantization": "fp8", "kv-cache-dtype": "fp8"}),
        (B200, "throughput", {"quantization": "fp8", "kv-cache-dtype": "fp8"}),
        (H200, "balanced", {}),
        (H200, "latency", {"quantization": "fp8", "max-num-seqs": 64}),
        (A100, "latency", {"max-num-seqs": 64}),
        (H200, "long-context", {"kv-cache-dtype": "fp8", "gpu-memory-utilization": 0.95}),
        (A100, "long-context", {"gpu-memory-utilization": 0.95}),
        (H200, "cost", {"quantization": "fp8", "kv-cache-dtype": "fp8", "gpu-memory-utilization": 0.95}),
        (H200, "debug", {"enforce-eager": True, "log-level": "DEBUG"}),
    ],
    ids=lambda value: value.card if isinstance(value, Device) else value if isinstance(value, str) else "",
)
def test_a_preset_says_exactly_what_serves_its_goal_on_this_card(
    device: Device, preset: str, expected: dict[str, Any]
) -> None:
    assert values(chosen(device, preset=Preset(preset), allow_fp8=True, allow_fp8_cache=True)) == expected


def test_fp8_is_never_chosen_without_leave_and_the_plan_says_what_leave_would_bring() -> None:
    choice = chosen(H200, preset=Preset.THROUGHPUT)
    assert values(choice) == {}
    assert [line.split(" = ")[0] for line in choice.left_out] == ["serve_allow_fp8", "serve_allow_fp8_kv"]


@pytest.mark.parametrize("preset", ["throughput", "cost"])
def test_an_fp8_cache_waits_for_weights_that_are_not_in_16_bits(preset: str) -> None:
    alone = chosen(H200, preset=Preset(preset), allow_fp8_cache=True)
    assert "kv-cache-dtype" not in values(alone)
    assert any("costs throughput" in line for line in alone.left_out)
    asked = chosen(H200, preset=Preset(preset), allow_fp8_cache=True, options={"quantization": "fp8"})
    assert values(asked)["kv-cache-dtype"] == "fp8"


def test_where_the_card_has_no_fp8_the_preset_says_so_with_its_capability() -> None:
    choice = chosen(A100, preset=Preset.THROUGHPUT, allow_fp8=True, allow_fp8_cache=True)
    assert all("8.0" in line and "8.9" in line for line in choice.left_out)


def test_balanced_promises_nothing_that_it_does_not_use() -> None:
    assert chosen(H200).left_out == ()


def test_an_option_that_a_version_lacks_is_left_out_in_words() -> None:
    choice = chosen(H200, preset=Preset.DEBUG, version="0.30.0")
    assert values(choice) == {"enforce-eager": True}
    assert choice.left_out == ("log-level: vLLM 0.30.0 does not have it",)


@pytest.mark.parametrize("preset", Preset)
def test_a_preset_never_overrides_the_user(preset: Preset) -> None:
    given = {rule.option: 7 if rule.option == "max-num-seqs" else "auto" for rule in serving_book().rules}
    given = {name: value for name, value in given.items() if name != "gpu-memory-utilization"}
    choice = chosen(
        H200, preset=preset, allow_fp8=True, allow_fp8_cache=True, gpu_memory_utilization=0.8, options=given
    )
    assert values(choice) == {"gpu-memory-utilization": 0.8, **given}
    assert {setting.origin for setting in choice.settings} == {"user"}


def test_the_users_options_reach_the_forecast() -> None:
    eager = chosen(H200, options={"enforce-eager": True, "max-num-batched-tokens": "16K", "dtype": "half"})
    assert eager.serving.enforce_eager
    assert eager.serving.max_num_batched_tokens == 16_384
    assert eager.serving.dtype == "float16"
    assert chosen(H200, options={"no-enforce-eager": True}).serving.enforce_eager is False
    small = chosen(H200, options={"kv-cache-dtype": "fp8"}).forecast
    assert small.kv_tokens > 1.9 * chosen(H200).forecast.kv_tokens
    assert chosen(H200, options={"performance-mode": "throughput"}).serving.max_num_seqs == 2048


@pytest.mark.parametrize(("text", "meant"), [("20G", 20 << 30), ("1.5g", 1_500_000_000), (1 << 30, 1 << 30)])
def test_sizes_are_read_as_vllm_reads_them(text: int | str, meant: int) -> None:
    choice = chosen(H200, options={"kv-cache-memory-bytes": text})
    assert (choice.serving.kv_cache_bytes, choice.forecast.fits) == (meant, True)


def test_a_prefix_cache_is_on_by_default_and_only_its_end_is_said() -> None:
    assert values(chosen(H200, options={"enable-prefix-caching": True})) == {}
    assert values(chosen(H200, options={"enable-prefix-caching": False})) == {"enable-prefix-caching": False}


@pytest.mark.parametrize(
    ("device", "spec_dtype", "architecture", "expected"),
    [
        (H200, "bfloat16", "LlamaForCausalLM", "bfloat16"),
        (H200, "float16", "LlamaForCausalLM", "float16"),
        (H200, "float32", "LlamaForCausalLM", "bfloat16"),
        (T4, "bfloat16", "LlamaForCausalLM", "float16"),
        (T4, "float32", "LlamaForCausalLM", "float16"),
        (T4, "bfloat16", "Gemma2ForCausalLM", "float32"),
    ],
)
def test_auto_is_the_dtype_that_vllm_would_take(
    device: Device, spec_dtype: str, architecture: str, expected: str
) -> None:
    spec = LLAMA_8B.__class__(**{**LLAMA_8B.__dict__, "dtype": spec_dtype, "architecture": architecture})
    assert dtype(spec, device, None) == expected


@pytest.mark.parametrize(
    ("device", "architecture", "options", "code"),
    [
        (T4, "LlamaForCausalLM", {"dtype": "bfloat16"}, "dtype-refused"),
        (H200, "Gemma2ForCausalLM", {"dtype": "half"}, "dtype-refused"),
        (H200, "Glm4ForCausalLM", {"dtype": "float16"}, "dtype-refused"),
        (T4, "LlamaForCausalLM", {"quantization": "mxfp8"}, "quantization-capability"),
        (A10G, "LlamaForCausalLM", {"max-num-batched-tokens": 64}, None),
        (A10G, "LlamaForCausalLM", {"max-num-seqs": 4096}, "batch-below-sequences"),
    ],
)
def test_a_forced_option_is_refused_by_the_rules_that_the_planner_follows(
    device: Device, architecture: str, options: dict[str, Any], code: str | None
) -> None:
    spec = LLAMA_8B.__class__(**{**LLAMA_8B.__dict__, "architecture": architecture})
    codes = [problem.code for problem in chosen(device, spec, options=options).forecast.reasons]
    assert (code in codes) if code else ("batch-below-sequences" not in codes)


@pytest.mark.parametrize(
    ("device", "options", "said"),
    [
        (H200, {"dtype": "float32"}, "twice the memory"),
        (T4, {}, "float16 instead"),
        (A100, {"quantization": "fp8"}, "no time"),
        (A100, {"kv-cache-dtype": "fp8_e4m3"}, "slower"),
        (H200, {"cpu-offload-gb": 10}, "does not know"),
    ],
)
def test_what_works_and_is_not_what_it_seems_is_a_warning(device: Device, options: dict[str, Any], said: str) -> None:
    (line,) = chosen(device, options=options).warnings
    assert said in line


def test_a_context_that_does_not_fit_is_refused_unless_it_may_be_shortened() -> None:
    ranks = Ranks(tensor=2)
    asked: dict[str, Any] = {"spec": LLAMA_70B, "ranks": ranks}
    card = Device(card="A100 SXM4 80GB", capability=(8, 0), total_mib=81_038)
    refused = chosen(card, **asked).forecast
    assert [problem.code for problem in refused.reasons] == ["does-not-fit"]
    shortened = chosen(card, **asked, max_model_len="auto")
    length = values(shortened)["max-model-len"]
    assert shortened.forecast.fits
    certain = refused.max_context * 0.95
    assert (length % 1024, 0 <= certain - length < 1024) == (0, True)
    preset = chosen(card, **asked, preset=Preset.LONG_CONTEXT)
    assert values(preset)["max-model-len"] > length
    assert not chosen(card, **asked, preset=Preset.LONG_CONTEXT, max_model_len=131_072).forecast.fits


def test_a_wished_context_that_only_just_fits_the_forecast_is_a_warning() -> None:
    ranks = Ranks(tensor=2)
    card = Device(card="A100 SXM4 80GB", capability=(8, 0), total_mib=81_038)
    few: dict[str, Any] = {"spec": LLAMA_70B, "ranks": ranks, "options": {"max-num-seqs": 32}}
    longest = chosen(card, **few, max_model_len="auto").forecast.max_context
    tight = chosen(card, **few, max_model_len=longest * 98 // 100)
    assert tight.forecast.fits
    assert ["% of the predicted KV cache" in line for line in tight.warnings] == [True]
    assert chosen(card, **few, max_model_len=longest * 94 // 100).warnings == ()
    assert chosen(card, **few, max_model_len="auto").warnings == ()


def test_the_models_own_context_is_said_only_by_who_wished_it() -> None:
    assert "max-model-len" not in values(chosen(H200))
    assert "max-model-len" not in values(chosen(H200, max_model_len="auto"))
    assert values(chosen(H200, max_model_len=8192)) == {"max-model-len": 8192}
    assert values(chosen(H200, max_model_len=4096)) == {"max-model-len": 4096}


def test_a_wished_share_is_said_even_where_it_is_vllms_own() -> None:
    assert values(chosen(H200, gpu_memory_utilization=0.92)) == {"gpu-memory-utilization": 0.92}


def test_sequences_are_limited_only_where_the_cache_cannot_hold_them_even_when_they_are_short() -> None:
    typical = serving_book().typical.tokens
    for device in CARDS:
        choice = chosen(device)
        limit = values(choice).get("max-num-seqs")
        if choice.forecast.fits:
            room = choice.forecast.kv_tokens / typical
            assert (limit is None) == (room >= batch_defaults(VERSION, device, 8192)[0])
            assert limit is None or room / 2 < limit <= room


def test_a_larger_share_keeps_room_for_what_is_not_charged_to_it() -> None:
    spare = serving_book().spare.mib
    for device in CARDS:
        share = values(chosen(device, preset=Preset.COST)).get("gpu-memory-utilization", 0.92)
        assert 0.92 <= share <= 0.95
        assert share == 0.92 or device.total_mib * (1 - share) >= spare


def test_a_card_that_others_use_keeps_its_share() -> None:
    busy = Device(card="H200 SXM 141GB", capability=(9, 0), total_mib=143_155, free_mib=140_000)
    assert "gpu-memory-utilization" not in values(chosen(busy, preset=Preset.COST))


def test_a_shared_gpu_is_forecast_with_its_share() -> None:
    half = chosen(H200, ranks=Ranks(share=0.45), preset=Preset.COST)
    assert half.serving.gpu_memory_utilization == 0.45
    assert "gpu-memory-utilization" not in values(half)


@pytest.mark.parametrize("method", ["awq", "gptq_marlin", "modelopt", "compressed-tensors", "mxfp4"])
def test_a_method_that_only_reads_checkpoints_is_refused_for_one_in_16_bits(method: str) -> None:
    refused = chosen(H200, options={"quantization": method}).forecast
    assert "quantization-mismatch" in [problem.code for problem in refused.reasons]


def test_an_online_method_whose_size_is_unknown_is_counted_in_16_bits_with_a_word() -> None:
    plain, odd = chosen(H200), chosen(H200, options={"quantization": "nvfp4_per_token"})
    assert odd.forecast.mib("weights") == plain.forecast.mib("weights")
    assert any("does not know its size" in line for line in odd.warnings)


@pytest.mark.parametrize(
    "given",
    [{"num-gpu-blocks-override": 1000}, {"max-cudagraph-capture-size": 64}, {"kv-cache-dtype": "nvfp4"}],
    ids=["blocks", "graphs", "cache"],
)
def test_what_the_forecast_cannot_count_is_said(given: dict[str, Any]) -> None:
    assert any("the forecast does not know" in line for line in chosen(H200, options=given).warnings)


def test_without_chunked_prefill_a_batch_holds_a_whole_prompt() -> None:
    small = {"enable-chunked-prefill": False, "max-num-batched-tokens": 2048}
    assert [problem.code for problem in chosen(H200, options=small).forecast.reasons] == ["batch-below-context"]
    whole = chosen(L4, LLAMA_8B, options={"enable-chunked-prefill": False}).serving
    assert whole.max_num_batched_tokens == LLAMA_8B.max_context


def test_a_share_that_leaves_no_room_for_cuda_graphs_beside_it_is_a_warning() -> None:
    tight = chosen(H200, version="0.26.0", gpu_memory_utilization=0.99)
    assert any("CUDA graphs" in line for line in tight.warnings)
    assert chosen(H200, version="0.26.0").warnings == ()


def test_an_architecture_that_nobody_knows_is_said() -> None:
    odd = replace(LLAMA_8B, source="model type 'foo' is not known: computed as a usual decoder")
    assert any("'foo' is not known" in line for line in chosen(H200, odd).warnings)
