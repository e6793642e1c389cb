"""A model is divided only where its heads and sizes allow it, over fast links first."""

from dataclasses import replace

import pytest

from rackhand.layout.terms import LayoutWish
from rackhand.layout.topology import Link
from rackhand.layout.ways import Way, hindrance, ways
from rackhand.models.spec import Experts, ModelSpec, Quantization
from tests.specs import LLAMA_8B, LLAMA_13B, LLAMA_70B, dense

WISH = LayoutWish(name="m", port=8000)
ODD = dense("odd", layers=28, hidden=3584, intermediate=18944, vocab=152064, heads=28, kv_heads=4, context=32768)
WIDE = replace(LLAMA_70B, intermediate_size=29568, quantization=Quantization(method="auto_gptq", weight_bits=4))


@pytest.mark.parametrize(
    ("spec", "able"),
    [(LLAMA_8B, [1, 2, 4, 8, 16]), (LLAMA_13B, [1, 2, 4, 8]), (ODD, [1, 2, 4])],
    ids=["32 heads, 8 of them keys", "40 heads, 13,824 = 2^9 x 27", "28 heads, 4 of them keys"],
)
def test_tensor_parallel_sizes_divide_the_heads(spec: ModelSpec, able: list[int]) -> None:
    assert [size for size in range(1, 17) if not hindrance(spec, size)] == able


def test_key_value_heads_are_divided_or_copied_but_not_mixed() -> None:
    spec = replace(LLAMA_8B, heads=24, kv_heads=6)
    assert hindrance(spec, 4) == "6 key-value heads"
    assert hindrance(replace(spec, kv_heads=2), 4) == ""
    assert hindrance(replace(spec, kv_heads=0), 4) == ""


def test_groups_of_quantised_weights_stay_whole() -> None:
    stored = Quantization(method="auto_gptq", weight_bits=4, group_size=128)
    assert hindrance(replace(WIDE, quantization=stored), 2) == "an intermediate size of 29,568 in groups of 128"
    assert hindrance(replace(WIDE, quantization=stored), 1) == ""
    assert hindrance(WIDE, 2) == ""
    assert hindrance(replace(WIDE, quantization=replace(stored, method="mxfp4", group_size=32)), 4) == ""


def test_of_a_mixture_of_experts_one_expert_is_divided() -> None:
    block = Quantization(method="fp8", weight_bits=8, group_size=128)
    experts = Experts(count=128, per_token=8, intermediate_size=1536)
    spec = replace(LLAMA_70B, experts=experts, quantization=block)
    assert [size for size in (1, 2, 4, 8) if not hindrance(spec, size)] == [1, 2, 4]


def test_experts_that_stay_whole_are_no_hindrance() -> None:
    experts = Experts(count=128, per_token=8, intermediate_size=1536)
    spec = replace(LLAMA_70B, experts=experts, quantization=Quantization(method="fp8", weight_bits=8, group_size=128))
    assert hindrance(spec, 8, whole_experts=True) == ""
    assert 8 not in {way.tensor for way in ways(spec, 8, WISH)}
    assert 8 in {way.tensor for way in ways(spec, 8, replace(WISH, expert_parallel=True))}


def test_a_padded_vocabulary_is_divided_too() -> None:
    phi = dense("p", layers=40, hidden=5120, intermediate=17920, vocab=100_352, heads=40, kv_heads=10, context=16384)
    assert hindrance(phi, 5) == "a vocabulary of 100,352 entries, padded to a multiple of 64"
    assert hindrance(replace(phi, vocab_size=100_300), 2) == ""


def test_every_way_uses_at_most_the_gpus_that_are_there() -> None:
    found = list(ways(LLAMA_8B, 6, WISH))
    assert max(way.ranks for way in found) == 6
    assert Way(tensor=1, pipeline=6, link=Link.NONE) in found
    assert Way(tensor=2, pipeline=3, link=Link.HOST) in found
    assert not any(way.tensor in (3, 5, 6) for way in found)


def test_a_pipeline_has_no_more_stages_than_layers() -> None:
    assert max(way.pipeline for way in ways(replace(LLAMA_8B, layers=2), 8, WISH)) == 2


def test_wished_sizes_are_the_only_ones() -> None:
    wish = replace(WISH, tensor_parallel_size=2, pipeline_parallel_size=3)
    assert {(way.tensor, way.pipeline) for way in ways(LLAMA_8B, 8, wish)} == {(2, 3)}
    assert list(ways(LLAMA_8B, 8, replace(WISH, tensor_parallel_size=3))) == []


def test_fast_links_come_first_and_pipelines_before_tensor_parallelism_across_nodes() -> None:
    wished = [
        Way(tensor=1, pipeline=1, link=Link.NONE),
        Way(tensor=2, pipeline=1, link=Link.NVLINK),
        Way(tensor=4, pipeline=1, link=Link.NVLINK),
        Way(tensor=2, pipeline=2, link=Link.NVLINK),
        Way(tensor=4, pipeline=1, link=Link.NODE),
        Way(tensor=1, pipeline=2, link=Link.NONE),
        Way(tensor=2, pipeline=1, link=Link.HOST),
    ]
    assert sorted(reversed(wished), key=lambda way: way.preference) == wished
