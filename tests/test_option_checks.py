"""What a user asks of vLLM is refused by name, with the replacement or the nearest thing, and never crashes us."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from rackhand.catalog import check_options, check_text, check_variables, deprecations, engine, quantizations
from rackhand.catalog.option_values import takes
from rackhand.catalog.retired import retired_book
from rackhand.catalog.vllm_options import known_series, option_row, option_table
from rackhand.errors import RackhandError

RELEASES = [f"{series}.0" for series in known_series()]
SEED_FLAGS = [
    ("disable-cuda-graph", "enforce-eager"),
    ("swap-space", "kv-offloading-size"),
    ("task", "runner"),
    ("guided-decoding-backend", "structured-outputs-config"),
    ("use-v2-block-manager", "remove it"),
    ("preemption-mode", "remove it"),
    ("enable-reasoning", "reasoning-parser"),
    ("max-seq-len-to-capture", "max-cudagraph-capture-size"),
    ("disable-frontend-multiprocessing", "remove it"),
    ("speculative-model", "speculative-config"),
    ("num-scheduler-steps", "remove it"),
]


def said(version: str, **options: Any) -> list[tuple[str, str]]:
    return [(problem.code, f"{problem.what} → {problem.next_step}") for problem in check_options(version, options)]


@pytest.mark.parametrize("version", RELEASES)
def test_every_series_has_its_table_of_options_and_methods(version: str) -> None:
    table = option_table(version)
    assert {"max-num-seqs", "tensor-parallel-size", "no-enable-prefix-caching"} <= table.names.keys()
    assert engine(version).gpu_memory_utilization == table.names["gpu-memory-utilization"].default
    assert {"fp8", "auto_awq", "compressed-tensors"} <= set(quantizations(version))


def test_an_unknown_series_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(RackhandError, match=r"0\.24 to 0\.33") as caught:
        check_options("0.99.0", {})
    assert caught.value.code == "unknown-engine"


@pytest.mark.parametrize("version", RELEASES)
@pytest.mark.parametrize(("flag", "replacement"), SEED_FLAGS)
def test_a_flag_of_old_guides_is_refused_by_name_with_its_replacement(
    flag: str, replacement: str, version: str
) -> None:
    [problem] = check_options(version, {flag: True})
    assert problem.code == "retired-option"
    assert flag in problem.what
    assert replacement in problem.next_step


@pytest.mark.parametrize("row", retired_book().options, ids=lambda row: str(row.name))
def test_a_retired_option_is_refused_from_the_series_that_lacks_it(row: Any) -> None:
    for version in RELEASES:
        known = row.name in option_table(version).names
        assert known or said(version, **{row.name: True})[0][0] == "retired-option"
    if option := option_row(row.name):
        assert option.until == row.gone


def test_an_option_is_refused_only_in_the_series_that_lack_it() -> None:
    assert check_options("0.26.0", {"calculate-kv-scales": True, "max-num-partial-prefills": 2}) == []
    assert said("0.28.0", calculate_kv_scales=True)[0][0] == "retired-option"
    assert said("0.27.1", max_num_partial_prefills=2)[0][0] == "retired-option"


def test_an_option_of_a_later_series_says_when_it_came() -> None:
    assert "it came with 0.29" in said("0.26.0", max_num_queued_reqs=100)[0][1]
    assert "it came with 0.31" in said("0.30.0", device_memory_utilization=0.9)[0][1]
    assert check_options("0.29.0", {"max-num-queued-reqs": 100}) == []


def test_an_abbreviation_that_vllm_would_take_is_refused_with_the_full_name() -> None:
    [(code, text)] = said("0.26.0", max_num_seq=64)
    assert code == "short-option"
    assert "write max-num-seqs" in text


def test_a_typo_gets_the_nearest_name() -> None:
    assert said("0.33.0", tensor_paralel_size=2) == [
        ("unknown-option", "vLLM 0.33.0 has no option tensor-paralel-size → did you mean tensor-parallel-size?")
    ]


def test_names_may_be_written_with_underscores_dashes_or_as_on_the_command_line() -> None:
    for name in ("max_num_seqs", "max-num-seqs", "--max-num-seqs"):
        assert check_options("0.33.0", {name: 64}) == []
        assert check_options("0.33.0", {name: "many"})[0].code == "bad-option"


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"gpu-memory-utilization": 1.5}, "above 0 and at most 1"),
        ({"gpu-memory-utilization": 0}, "above 0"),
        ({"block-size": 8}, "a multiple of 16"),
        ({"max-model-len": 0}, "above 0"),
        ({"max-model-len": "long"}, "auto"),
        ({"max-num-seqs": 0}, "at least 1"),
        ({"max-num-seqs": True}, "a whole number"),
        ({"max-num-seqs": 64.0}, "a whole number"),
        ({"max-num-batched-tokens": "1.5K"}, "1024s"),
        ({"enforce-eager": "yes"}, "true or false"),
        ({"enforce-eager": 1}, "true or false"),
        ({"headless": False}, "cannot be negated"),
        ({"dtype": "int8"}, "one of auto, bfloat16"),
        ({"compilation-config": "{mode: 3}"}, "JSON"),
        ({"allowed-origins": ["*"]}, "JSON as text"),
        ({"served-model-name": []}, "a list of such"),
        ({"revision": None}, "text"),
        ({"quantization": "fp9"}, "compressed-tensors"),
    ],
)
def test_a_value_that_vllm_would_refuse_is_refused_in_words(options: dict[str, Any], complaint: str) -> None:
    [problem] = check_options("0.33.0", options)
    assert problem.code == "bad-option"
    assert complaint in problem.what


@pytest.mark.parametrize(
    "options",
    [
        {"max-model-len": "auto"},
        {"max-model-len": -1},
        {"max-model-len": "32k"},
        {"max-num-batched-tokens": "16K", "max-num-seqs": "512"},
        {"max-num-batched-tokens": "25.6k"},
        {"gpu-memory-utilization": "0.9"},
        {"compilation-config": {"mode": 3}, "speculative-config": '{"method": "mtp"}'},
        {"compilation-config.mode": 3},
        {"allowed-origins": '["*"]'},
        {"served-model-name": ["a", "b"], "cudagraph-capture-sizes": [1, 2, 4]},
        {"no-enable-prefix-caching": True},
        {"disable-prefix-caching": True},
        {"moe-backend": "Flashinfer-Cutlass"},
        {"hf-overrides": {"a": 1}},
    ],
)
def test_a_value_that_vllm_takes_is_taken(options: dict[str, Any]) -> None:
    assert check_options("0.33.0", options) == []


def test_a_quantisation_that_went_is_refused_with_what_to_serve_instead() -> None:
    assert check_options("0.27.1", {"quantization": "bitsandbytes"}) == []
    for version, method in (("0.28.0", "bitsandbytes"), ("0.24.0", "squeezellm"), ("0.33.0", "gguf")):
        [problem] = check_options(version, {"quantization": method})
        assert problem.code == "retired-option"
        assert method in problem.what
        assert "checkpoint" in problem.next_step


def test_fewer_tokens_than_sequences_in_a_batch_are_refused_with_the_numbers() -> None:
    options = {"max-num-batched-tokens": "1k", "max-num-seqs": 2048}
    assert said("0.26.0", **options)[0][0] == "batch-below-sequences"
    assert "1000 is less than max-num-seqs 2048" in said("0.26.0", **options)[0][1]
    assert check_options("0.26.0", {"max-num-batched-tokens": 2048, "max-num-seqs": 2048}) == []


@pytest.mark.parametrize("off", [{"no-enable-chunked-prefill": True}, {"enable-chunked-prefill": False}])
def test_without_chunked_prefill_a_batch_must_hold_the_whole_context(off: dict[str, Any]) -> None:
    options = {"max-num-batched-tokens": 8192, "max-model-len": "32K"}
    assert check_options("0.33.0", options) == []
    assert check_options("0.33.0", {**options, **off})[0].code == "batch-below-sequences"


def test_two_names_of_one_option_are_refused() -> None:
    assert said("0.33.0", **{"enforce-eager": True, "no-enforce-eager": True})[0][0] == "option-twice"
    assert said("0.33.0", gpu_memory_utilization=0.9, device_memory_utilization=0.8)[0][0] == "option-twice"


def test_every_reason_is_listed_at_once() -> None:
    codes = [code for code, _ in said("0.33.0", swap_space=4, max_num_seqs=0, dtypo="half")]
    assert codes == ["retired-option", "bad-option", "unknown-option"]


def test_a_problem_says_where_the_option_stands() -> None:
    places = [check_options("0.33.0", {"swap_space": 4}, where)[0].where for where in ("serve_options", "--set", "")]
    assert places == ["serve_options swap-space", "--set swap-space", "swap-space"]


def test_a_text_is_not_repeated_because_it_may_be_a_secret() -> None:
    problems = check_options("0.33.0", {"ssl-keyfile": {"hunter2": 1}, "api-key": [None, {"hunter2": 2}]})
    assert len(problems) == 2
    assert "hunter2" not in str(problems)


def test_a_variable_that_vllm_no_longer_reads_is_refused() -> None:
    [problem] = check_variables("0.33.0", {"VLLM_ATTENTION_BACKEND": "FLASHINFER", "HF_HOME": "/x"})
    assert "attention-backend" in problem.next_step
    assert check_variables("0.31.0", {"VLLM_ENGINE_ITERATION_TIMEOUT_S": 60}) == []
    assert len(check_variables("0.32.0", {"VLLM_ENGINE_ITERATION_TIMEOUT_S": 60})) == 1


def test_a_deprecated_option_is_told_and_not_refused() -> None:
    assert deprecations("0.30.0", {"log-config-file": "x"}) == []
    [sentence] = deprecations("0.31.0", {"log_config_file": "x"})
    assert "use logging-config" in sentence
    assert check_options("0.31.0", {"log-config-file": "x"}) == []


@pytest.mark.parametrize(
    ("line", "replacement"),
    [
        ("python -m vllm.benchmarks.benchmark --model m", "vllm bench serve"),
        ("ExecStart=/opt/venv/bin/python3 -m vllm.entrypoints.openai.api_server --model m", "vllm serve"),
        ("expr: vllm:gpu_cache_usage_perc > 0.9", "vllm:kv_cache_usage_perc"),
        ("histogram_quantile(0.9, vllm:time_to_first_token_bucket)", "vllm:time_to_first_token_seconds"),
        ("rate(vllm:time_per_output_token_seconds_sum[5m])", "vllm:inter_token_latency_seconds"),
        ("rate(vllm:time_per_output_token[5m])", "vllm:request_time_per_output_token_seconds"),
        ("Environment=VLLM_ATTENTION_BACKEND=FLASH_ATTN", "attention-backend"),
    ],
)
def test_an_old_command_or_metric_is_found_in_a_text_with_its_line(line: str, replacement: str) -> None:
    [problem] = check_text(f"first\n{line}\nlast", "dashboard.json")
    assert problem.where == "dashboard.json:2"
    assert replacement in problem.next_step


def test_names_of_today_pass_in_a_text() -> None:
    today = (
        "vllm serve m\nvllm bench serve\nvllm:kv_cache_usage_perc\nvllm:time_to_first_token_seconds_bucket\n"
        "vllm:request_time_per_output_token_seconds_sum\nvllm:inter_token_latency_seconds\nVLLM_LOGGING_LEVEL=INFO"
    )
    assert check_text(today) == []


VALUES = some.recursive(
    some.none() | some.booleans() | some.integers() | some.floats() | some.text(),
    lambda inner: some.lists(inner, max_size=3) | some.dictionaries(some.text(), inner, max_size=3),
    max_leaves=6,
)
NAMES = some.text() | some.sampled_from(sorted(option_table("0.33.0").names)) | some.integers() | some.none()


@given(version=some.sampled_from(RELEASES), options=some.dictionaries(NAMES, VALUES, max_size=5))
def test_any_mapping_gives_problems_or_none_and_never_a_crash(version: str, options: dict[Any, Any]) -> None:
    for problem in check_options(version, options):
        assert problem.code
        assert problem.next_step
    check_variables(version, options)
    deprecations(version, options)


@given(text=some.text())
def test_any_text_can_be_checked(text: str) -> None:
    check_text(text)


@given(value=some.integers(min_value=-(10**6), max_value=10**6))
def test_a_whole_number_is_taken_as_a_number_and_as_text_alike(value: int) -> None:
    option = option_table("0.33.0").names["max-num-seqs"]
    assert takes(option, value) == takes(option, str(value)) == takes(option, json.dumps(value))
