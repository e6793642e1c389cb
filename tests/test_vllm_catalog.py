"""What the catalogue says of each vLLM series, where a plan depends on it."""

import pytest

from rackhand.catalog import engine, quantizations
from rackhand.catalog.vllm import Consumed, block_tokens

A100, H100, B200, GB10 = (8, 0), (9, 0), (10, 0), (12, 1)
GIB = 1024


@pytest.mark.parametrize(
    ("version", "card", "gib", "capability", "defaults"),
    [
        ("0.26.0", "NVIDIA H200", 139, H100, (1024, 8192)),
        ("0.26.0", "NVIDIA A100-SXM4-80GB", 79, A100, (256, 2048)),
        ("0.26.0", "NVIDIA L4", 22, (8, 9), (256, 2048)),
        ("0.26.0", "NVIDIA B200", 178, B200, (1024, 8192)),
        ("0.28.0", "NVIDIA B200", 178, B200, (1024, 16384)),
        ("0.32.0", "NVIDIA GB10", 119, GB10, (1024, 8192)),
        ("0.33.0", "NVIDIA GB10", 119, GB10, (256, 2048)),
        ("0.33.0", "NVIDIA H100 80GB HBM3", 79, H100, (1024, 8192)),
        ("0.33.0", "H100 with 69 GiB", 69, H100, (256, 2048)),
    ],
)
def test_the_batch_defaults_follow_the_cards_memory_and_the_release(
    version: str, card: str, gib: int, capability: tuple[int, int], defaults: tuple[int, int]
) -> None:
    assert engine(version).batch_defaults(card, gib * GIB, capability) == defaults


@pytest.mark.parametrize(
    ("version", "architecture", "experts", "hybrid", "v2"),
    [
        ("0.24.0", "LlamaForCausalLM", False, False, True),
        ("0.24.0", "Qwen2ForCausalLM", False, False, False),
        ("0.26.0", "Qwen2ForCausalLM", False, False, True),
        ("0.26.0", "Qwen3MoeForCausalLM", True, False, False),
        ("0.26.0", "DeepseekV2ForCausalLM", True, False, True),
        ("0.26.0", "Qwen3NextForCausalLM", True, True, False),
        ("0.26.0", "FalconH1ForCausalLM", False, True, False),
        ("0.27.1", "KimiK3ForConditionalGeneration", True, True, True),
        ("0.29.0", "Qwen3MoeForCausalLM", True, False, True),
        ("0.33.0", "Qwen3NextForCausalLM", True, True, True),
    ],
)
def test_the_model_runner_follows_the_release_and_the_model(
    version: str, architecture: str, experts: bool, hybrid: bool, v2: bool
) -> None:
    assert engine(version).uses_v2(architecture, experts=experts, hybrid=hybrid) is v2


def test_graphs_are_taken_off_the_cache_by_runner_v1_and_since_0_29_by_both() -> None:
    assert not engine("0.26.0").reserves_graphs("LlamaForCausalLM", experts=False)
    assert engine("0.26.0").reserves_graphs("Qwen3MoeForCausalLM", experts=True)
    assert engine("0.29.0").reserves_graphs("LlamaForCausalLM", experts=False)


def test_windows_are_kept_for_the_batches_in_flight() -> None:
    assert engine("0.25.1").batches_in_flight(1, v2=True) == 1
    assert engine("0.26.0").batches_in_flight(1, v2=True) == 2
    assert engine("0.26.0").batches_in_flight(1, v2=False) == 2
    assert engine("0.26.0").batches_in_flight(4, v2=True) == 5
    assert engine("0.26.0").batches_in_flight(4, v2=False) == 4


def test_from_0_27_on_whole_segments_of_the_allocator_are_counted() -> None:
    assert engine("0.26.0").consumed is Consumed.PARTS
    assert engine("0.27.1").consumed is Consumed.TOTAL


def test_no_release_serves_on_mig_slices() -> None:
    assert not any(engine(f"0.{minor}.0").mig for minor in range(24, 34))


def test_a_method_is_offered_by_the_releases_that_have_it() -> None:
    assert "bitsandbytes" in quantizations("0.27.1")
    assert "bitsandbytes" not in quantizations("0.28.0")
    assert "nvfp4_per_token" not in quantizations("0.25.1")


def test_a_backend_has_its_block_and_an_unknown_one_the_common_block() -> None:
    assert block_tokens("FLASHMLA") == 64
    assert block_tokens("SOMETHING_NEW") == 16
