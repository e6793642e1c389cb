"""Model specs from config.json: published sizes exactly, and what each family keeps of a sequence."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from rackhand.catalog.book import LOADER
from rackhand.catalog.models import model_book
from rackhand.errors import RackhandError
from rackhand.models.config import spec_from_config
from rackhand.models.spec import Attention, LayerGroup, ModelSpec, Split, Stage

PUBLISHED: dict[str, Any] = yaml.load(
    (Path(__file__).parent / "fixtures" / "models" / "published.yaml").read_text(), Loader=LOADER
)
LLAMA = PUBLISHED["llama-3-8b"]["config"]
DEEPSEEK_V3 = next(row.config for row in model_book() if row.id == "deepseek-v3-0324")


def spec(name: str, **changes: Any) -> ModelSpec:
    return spec_from_config({**PUBLISHED[name]["config"], **changes}, name)


def kept(found: ModelSpec) -> list[tuple[str, int, int | None]]:
    return [(group.attention.value, group.layers, group.window) for group in found.groups]


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_parameters_are_the_published_ones(name: str) -> None:
    assert spec(name).parameters == PUBLISHED[name]["parameters"]


@pytest.mark.parametrize("row", model_book(), ids=lambda row: row.id)
def test_every_model_of_the_catalogue_has_its_size_and_its_bytes(row: Any) -> None:
    found = spec_from_config(row.config, row.id, quantize_config=row.quantize_config)

    assert found.parameters == row.parameters
    assert found.source == ""
    assert found.weight_bytes == pytest.approx(row.weight_bytes, rel=0.005)


def test_a_16_bit_model_takes_two_bytes_for_each_parameter() -> None:
    found = spec("llama-3-8b")

    assert found.weight_bytes == 2 * found.parameters
    assert found.weights_source == "computed"


def test_grouped_queries_keep_a_key_and_a_value_for_each_key_value_head() -> None:
    assert spec("llama-3-8b").groups == (
        LayerGroup(attention=Attention.FULL, layers=32, kv_heads=8, key_size=128, value_size=128),
    )


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mistral-7b-v0.1", [("sliding", 32, 4096)]),
        ("qwen2.5-0.5b", [("full", 24, None)]),
        ("phi-3-mini", [("sliding", 32, 2047)]),
        ("gemma2-2b", [("sliding", 13, 4096), ("full", 13, None)]),
        ("gemma-3-4b", [("sliding", 29, 1024), ("full", 5, None)]),
        ("gpt-oss-20b", [("sliding", 12, 128), ("full", 12, None)]),
        ("command-r", [("full", 40, None)]),
        ("command-r7b", [("sliding", 24, 4096), ("full", 8, None)]),
        ("scout", [("chunked", 36, 8192), ("full", 12, None)]),
        ("qwen3-next", [("state", 36, None), ("full", 12, None)]),
        ("nemotron-nano-9b-v2", [("state", 27, None), ("full", 4, None)]),
        ("jamba-mini", [("state", 28, None), ("full", 4, None)]),
    ],
)
def test_each_family_keeps_what_vllm_keeps(name: str, expected: list[tuple[str, int, int | None]]) -> None:
    assert kept(spec(name)) == expected


def test_the_kinds_of_layers_in_the_file_win_over_the_family_s_pattern() -> None:
    kinds = ["full_attention"] * 20 + ["sliding_attention"] * 6

    assert kept(spec("gemma2-2b", layer_types=kinds)) == [("full", 20, None), ("sliding", 6, 4096)]


def test_a_window_of_zero_means_none() -> None:
    assert kept(spec("mistral-7b-v0.1", sliding_window=0)) == [("full", 32, None)]


def test_latent_attention_keeps_one_vector_for_all_heads() -> None:
    found = spec_from_config(DEEPSEEK_V3, "v3")

    assert found.groups == (LayerGroup(attention=Attention.MLA, layers=61, kv_heads=1, key_size=576),)


def test_the_indexer_of_sparse_latent_attention_keeps_132_bytes_more() -> None:
    index = {"index_topk": 2048, "index_n_heads": 64, "index_head_dim": 128}
    found = spec_from_config({**DEEPSEEK_V3, "model_type": "deepseek_v32", **index}, "v3.2")

    assert [(group.key_size, group.layers) for group in found.groups] == [(576, 61), (66, 61)]


def test_a_packed_up_projection_of_latent_attention_is_held_again_in_16_bits() -> None:
    packed = spec_from_config(DEEPSEEK_V3, "v3")
    plain = spec_from_config({**DEEPSEEK_V3, "quantization_config": None}, "v3")
    copies = next(part for part in packed.parts if part.name == "latent-copies")

    assert (copies.elements, copies.bytes) == (0, 61 * 128 * (128 + 128) * 512 * 2)
    assert "latent-copies" not in {part.name for part in plain.parts}
    assert plain.weight_bytes == pytest.approx(2 * plain.parameters, rel=1e-6)


GEMMA_4 = {
    "model_type": "gemma4_text",
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "num_hidden_layers": 30,
    "hidden_size_per_layer_input": 256,
    "max_position_embeddings": 131072,
}


def test_layers_that_read_the_cache_of_earlier_ones_keep_nothing() -> None:
    alone = spec_from_config(GEMMA_4, "m")
    shared = spec_from_config({**GEMMA_4, "num_kv_shared_layers": 10}, "m")

    assert kept(alone) == [("sliding", 25, 512), ("full", 5, None)]
    assert kept(shared) == [("sliding", 17, 512), ("full", 3, None)]
    assert shared.weight_bytes > 2 * shared.parameters  # vLLM makes room for their keys and values all the same


def test_global_layers_of_gemma_4_have_wider_heads() -> None:
    full = next(group for group in spec_from_config(GEMMA_4, "m").groups if group.attention is Attention.FULL)

    assert (full.key_size, full.value_size) == (512, 512)


def test_a_mixture_can_list_its_sparse_layers() -> None:
    kinds = ["dense", *["sparse"] * 60]
    first = {**DEEPSEEK_V3, "first_k_dense_replace": None, "mlp_layer_types": kinds}

    assert spec_from_config(first, "m") == spec_from_config({**DEEPSEEK_V3, "first_k_dense_replace": 1}, "m")


def test_nemotron_h_can_spell_its_layers_out() -> None:
    words = {"M": "mamba", "-": "mlp", "*": "attention"}
    pattern = PUBLISHED["nemotron-nano-9b-v2"]["config"]["hybrid_override_pattern"]
    spelt = [words[letter] for letter in pattern]
    found = spec("nemotron-nano-9b-v2", hybrid_override_pattern=None, layers_block_type=spelt)

    assert found == spec("nemotron-nano-9b-v2")


def test_one_key_value_head_serves_all_queries_of_falcon_7b() -> None:
    assert spec("falcon-7b").kv_heads == 1
    assert spec("falcon-40b").kv_heads == 8


def test_a_recurrent_layer_keeps_its_convolution_and_its_state() -> None:
    state = next(group for group in spec("qwen3-next").groups if group.attention is Attention.STATE)

    assert state.state_bytes == 2 * ((2 * 16 * 128 + 32 * 128) * 3 + 32 * 128 * 128)


def test_nemotron_h_keeps_its_state_in_32_bits() -> None:
    state = next(group for group in spec("nemotron-nano-9b-v2").groups if group.attention is Attention.STATE)

    assert state.state_bytes == 2 * (128 * 80 + 2 * 8 * 128) * 3 + 4 * 128 * 80 * 128


def test_tied_embeddings_are_there_once() -> None:
    found = spec("llama-3.2-1b")

    assert found.tied_embeddings
    assert "lm_head" not in {part.name for part in found.parts}


def test_parts_say_how_they_are_divided_and_where_they_stand() -> None:
    parts = {part.name: part for part in spec_from_config(DEEPSEEK_V3, "v3").parts}

    assert parts["experts"].split is Split.TENSOR
    assert parts["latent"].split is Split.WHOLE
    assert parts["router"].split is Split.WHOLE
    assert not parts["router"].linear
    assert (parts["embeddings"].stage, parts["lm_head"].stage) == (Stage.FIRST, Stage.LAST)
    keys = next(part for part in spec("llama-3-8b").parts if part.name == "key-value")
    assert (keys.split, keys.linear) == (Split.KV_HEADS, True)


def test_experts_are_described() -> None:
    experts = spec_from_config(DEEPSEEK_V3, "v3").experts

    assert experts is not None
    assert (experts.count, experts.per_token, experts.intermediate_size, experts.shared) == (256, 8, 2048, 1)


def test_a_vision_tower_is_counted_and_named() -> None:
    found = spec("qwen2-vl-7b")
    tower = sum(part.elements for part in found.parts if part.name.startswith("vision"))

    assert found.multimodal == ("vision",)
    assert tower == 675_759_104


def test_an_unknown_tower_is_estimated_and_the_spec_says_so() -> None:
    vision = {"hidden_size": 1024, "num_hidden_layers": 24, "intermediate_size": 4096}
    found = spec_from_config({"model_type": "brand_new_vl", "text_config": LLAMA, "vision_config": vision}, "new")

    assert found.parameters > 8_300_000_000
    assert found.source == "estimated tower: vision"


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"max_position_embeddings": 8192}, 8192),
        ({"max_position_embeddings": 131072, "rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, 131072),
        ({"max_position_embeddings": 4096, "rope_scaling": {"type": "linear", "factor": 4.0}}, 16384),
        (
            {
                "max_position_embeddings": 32768,
                "rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768},
            },
            131072,
        ),
        ({"max_position_embeddings": 131072, "rope_scaling": {"type": "longrope"}}, 131072),
        ({"max_position_embeddings": 8192, "model_max_length": 131072}, 131072),
        ({"max_position_embeddings": None}, 2048),
    ],
)
def test_the_context_is_the_one_that_vllm_derives(keys: dict[str, Any], expected: int) -> None:
    assert spec("llama-3-8b", **keys).max_context == expected


@pytest.mark.parametrize(
    ("said", "expected"),
    [("bfloat16", "bfloat16"), ("float16", "float16"), ("float32", "bfloat16"), (None, "bfloat16")],
)
def test_the_dtype_is_what_auto_gives(said: str | None, expected: str) -> None:
    assert spec("llama-3-8b", torch_dtype=said).dtype == expected


def test_an_unknown_family_is_computed_as_a_usual_decoder_and_the_spec_says_so() -> None:
    found = spec("llama-3-8b", model_type="brand_new")

    assert found.parameters == 8_030_261_248
    assert "'brand_new' is not known" in found.source


@pytest.mark.parametrize(
    ("config", "word"),
    [
        ({}, "hidden_size"),
        ({"model_type": "whisper", "d_model": 1280, "encoder_layers": 32}, "num_attention_heads"),
        ({**LLAMA, "vocab_size": None}, "vocab_size"),
        ({**LLAMA, "model_type": "mamba2"}, "mamba2"),
        ({**LLAMA, "is_encoder_decoder": True}, "does not generate"),
        ({**LLAMA, "model_type": "bert", "architectures": ["BertForMaskedLM"]}, "does not generate"),
    ],
)
def test_what_cannot_be_computed_is_refused_with_what_is_missing(config: dict[str, Any], word: str) -> None:
    with pytest.raises(RackhandError) as caught:
        spec_from_config(config, "m")

    assert caught.value.code == "model-unsupported"
    assert word in caught.value.what


@pytest.mark.parametrize("key", ["num_hidden_layers", "sliding_window_pattern"])
def test_numbers_that_would_never_end_are_refused(key: str) -> None:
    with pytest.raises(RackhandError, match=key):
        spec("gemma2-2b", **{key: 1 << 39})


@pytest.mark.parametrize("nonsense", [-1, 0, "32", 1.5, [32], True, 10**30])
def test_a_nonsense_number_is_one_clear_line(nonsense: Any) -> None:
    with pytest.raises(RackhandError) as caught:
        spec("llama-3-8b", num_attention_heads=nonsense)

    assert caught.value.code == "model-config"
    assert "num_attention_heads" in str(caught.value)
    assert "\n" not in str(caught.value)
