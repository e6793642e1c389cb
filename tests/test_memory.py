"""Whether a model fits is plain arithmetic that never contradicts itself."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rackhand import memory
from tests.surveys import CONFIG, GIB

GPU_MIB = st.integers(4_000, 300_000)
SHARE = st.floats(0.5, 0.98)
WEIGHT_BYTES = st.integers(0, 400 * GIB)
KV_BYTES = st.integers(1, 4_000_000)
CONTEXT = st.integers(16, 2_000_000)
RANKS = st.sampled_from([1, 2, 4, 8, 16])


def test_llama_3_8b_needs_128_kib_of_cache_per_token() -> None:
    assert memory.kv_bytes_per_token(CONFIG, 2) == 128 * 1024


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"head_dim": 256}, 256 * 1024),
        ({"num_key_value_heads": None}, 512 * 1024),
        ({"head_dim": None}, 128 * 1024),
        ({"num_attention_heads": 0}, None),
        ({"num_hidden_layers": "many"}, None),
        ({"hidden_size": None}, None),
    ],
)
def test_the_cache_of_a_token_follows_from_the_config_or_is_unknown(
    change: dict[str, object], expected: int | None
) -> None:
    assert memory.kv_bytes_per_token({**CONFIG, **change}, 2) == expected


def test_the_numbers_of_a_multimodal_model_stand_in_its_text_part() -> None:
    nested = {"text_config": CONFIG, "vision_config": {"num_hidden_layers": 99}}
    assert memory.kv_bytes_per_token(nested, 2) == memory.kv_bytes_per_token(CONFIG, 2)
    assert memory.attention_heads(nested) == 32
    assert memory.context_length(nested) == 8192


@pytest.mark.parametrize(
    "config", [{}, {"num_attention_heads": "32", "max_position_embeddings": None}, {"text_config": None}]
)
def test_what_the_config_does_not_say_is_unknown(config: dict[str, object]) -> None:
    assert memory.attention_heads(config) is None
    assert memory.context_length(config) is None
    assert memory.kv_bytes_per_token(config, 2) is None


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, 2),
        ({"dtype": "float32"}, 4),
        ({"dtype": "bfloat16"}, 2),
        ({"kv-cache-dtype": "fp8"}, 1),
        ({"kv-cache-dtype": "fp8_e4m3", "dtype": "float32"}, 1),
        ({"kv-cache-dtype": "auto", "dtype": "float32"}, 4),
    ],
)
def test_an_element_of_the_cache_has_the_size_that_vllm_gives_it(options: dict[str, str], expected: int) -> None:
    assert memory.element_bytes(options) == expected


def test_the_bill_of_8b_on_a_24_gib_card_names_every_part() -> None:
    fit = memory.fit(24_564, 0.92, 15 * GIB, 128 * 1024, 8192, 1)
    assert (fit.budget_mib, fit.weights_mib, fit.cache_mib, fit.overhead_mib) == (22_598, 15_360, 1_024, 1_536)
    assert fit.fits
    assert fit.longest_context == (22_598 - 15_360 - 1_536) * 8


@given(GPU_MIB, GPU_MIB, SHARE, WEIGHT_BYTES, KV_BYTES, CONTEXT, RANKS)
def test_more_memory_never_fits_less(
    one_mib: int, other_mib: int, share: float, weight_bytes: int, kv_bytes: int, context: int, ranks: int
) -> None:
    small, large = (
        memory.fit(size, share, weight_bytes, kv_bytes, context, ranks) for size in sorted((one_mib, other_mib))
    )
    assert large.fits or not small.fits
    assert large.longest_context >= small.longest_context


@given(GPU_MIB, SHARE, WEIGHT_BYTES, KV_BYTES, CONTEXT)
def test_more_gpus_never_fit_less(
    memory_mib: int, share: float, weight_bytes: int, kv_bytes: int, context: int
) -> None:
    fits = [memory.fit(memory_mib, share, weight_bytes, kv_bytes, context, ranks).fits for ranks in (1, 2, 4, 8)]
    assert fits == sorted(fits)


@given(GPU_MIB, SHARE, WEIGHT_BYTES, KV_BYTES, CONTEXT, RANKS)
def test_the_longest_context_fits_and_the_next_mib_of_tokens_does_not(
    memory_mib: int, share: float, weight_bytes: int, kv_bytes: int, context: int, ranks: int
) -> None:
    longest = memory.fit(memory_mib, share, weight_bytes, kv_bytes, context, ranks).longest_context
    if not longest:
        return
    assert memory.fit(memory_mib, share, weight_bytes, kv_bytes, longest, ranks).fits
    assert not memory.fit(memory_mib, share, weight_bytes, kv_bytes, longest + 1, ranks).fits
