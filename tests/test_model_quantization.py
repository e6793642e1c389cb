"""How checkpoints are quantised: vLLM's method, the bytes, and what a vLLM or a card refuses."""

from typing import Any

import pytest

from rackhand.errors import RackhandError
from rackhand.models.config import spec_from_config
from rackhand.models.quantization_checks import refuse_quantization
from rackhand.models.spec import ModelSpec, Quantization

LLAMA = {
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "num_hidden_layers": 32,
    "vocab_size": 128256,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": False,
}
LINEAR = 32 * (4096 * 4096 * 2 + 2 * 1024 * 4096 + 3 * 14336 * 4096)
REST = 8_030_261_248 - LINEAR
COMPRESSED: dict[str, Any] = {
    "quant_method": "compressed-tensors",
    "ignore": ["lm_head"],
    "config_groups": {
        "group_0": {
            "targets": ["Linear"],
            "weights": {"num_bits": 8, "type": "float", "strategy": "channel", "symmetric": True},
            "input_activations": {"num_bits": 8, "type": "float", "strategy": "token", "dynamic": True},
        }
    },
}


def spec(quantization: dict[str, Any], **changes: Any) -> ModelSpec:
    return spec_from_config({**LLAMA, **changes, "quantization_config": quantization}, "m")


def compressed(**weights: Any) -> dict[str, Any]:
    groups = {"group_0": {"targets": ["Linear"], "weights": weights}}
    return {"quant_method": "compressed-tensors", "config_groups": groups}


def linear_bytes(found: ModelSpec) -> int:
    return sum(part.bytes for part in found.parts if part.linear)


@pytest.mark.parametrize(
    ("quantization", "method", "bits_each"),
    [
        ({"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True}, "auto_awq", 4 + 20 / 128),
        ({"quant_method": "gptq", "bits": 4, "group_size": 128, "sym": True}, "auto_gptq", 4 + 20 / 128),
        ({"quant_method": "gptq", "bits": 8, "group_size": -1, "sym": True}, "auto_gptq", 8),
        ({"quant_method": "fp8", "activation_scheme": "dynamic"}, "fp8", 8),
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, "fp8", 8 + 32 / 128**2),
        (COMPRESSED, "compressed-tensors", 8),
        (compressed(num_bits=4, type="int", strategy="group", group_size=128), "compressed-tensors", 4 + 16 / 128),
        (compressed(num_bits=4, type="float", strategy="tensor_group", group_size=16), "compressed-tensors", 4.5),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, "modelopt_fp4", 4.5),
        ({"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "FP8"}}, "modelopt", 8),
    ],
)
def test_each_format_takes_its_bits_and_scales(quantization: dict[str, Any], method: str, bits_each: float) -> None:
    found = spec(quantization)

    assert found.quantization is not None
    assert found.quantization.method == method
    assert found.parameters == 8_030_261_248
    assert linear_bytes(found) == pytest.approx(LINEAR * bits_each / 8, rel=0.002)
    assert found.weight_bytes - linear_bytes(found) == 2 * REST


def test_ignored_modules_stay_in_16_bits() -> None:
    everything = spec({"quant_method": "fp8"})
    but_keys = spec({"quant_method": "fp8", "ignored_layers": ["self_attn.k_proj", "self_attn.v_proj"]})

    assert but_keys.weight_bytes - everything.weight_bytes == pytest.approx(32 * 2 * 1024 * 4096, rel=0.001)


@pytest.mark.parametrize(
    "pattern", ["model.layers.0.mlp.down_proj", "re:.*layers\\.0\\.mlp\\.down_proj", "*layers.0.mlp.down_proj"]
)
def test_one_layer_can_be_ignored_by_name_expression_or_wildcard(pattern: str) -> None:
    ignoring = spec({**COMPRESSED, "ignore": [pattern]})

    assert ignoring.weight_bytes - spec(COMPRESSED).weight_bytes == pytest.approx(14336 * 4096, rel=0.001)


@pytest.mark.parametrize(
    ("quantization", "bytes_each"),
    [
        ({"quant_method": "fp8"}, 1),
        ({"quant_method": "fp8", "ignored_layers": ["re:vision_tower.*"]}, 2),
        ({"quant_method": "awq", "bits": 4, "group_size": 128}, 2),
    ],
)
def test_a_tower_is_packed_unless_the_method_or_a_pattern_spares_it(
    quantization: dict[str, Any], bytes_each: int
) -> None:
    outer = {"model_type": "gemma3", "text_config": {**LLAMA, "model_type": "gemma3_text"}, "vision_config": {"a": 1}}
    found = spec_from_config({**outer, "quantization_config": quantization}, "m")
    tower = next(part for part in found.parts if part.name == "vision-linear")

    assert tower.bytes == pytest.approx(bytes_each * tower.elements, rel=0.001)


def test_mxfp4_packs_the_experts_alone() -> None:
    moe = {"num_local_experts": 8, "num_experts_per_tok": 2, "model_type": "mixtral"}
    found = {part.name: part for part in spec({"quant_method": "mxfp4"}, **moe).parts}

    assert found["experts"].bytes * 8 == found["experts"].elements * 4.25
    assert found["attention"].bytes == 2 * found["attention"].elements


def test_the_checkpoint_says_that_its_cache_is_8_bit() -> None:
    scheme = {"num_bits": 8, "type": "float"}
    found = [
        spec({**COMPRESSED, "kv_cache_scheme": scheme}).quantization,
        spec({"quant_method": "modelopt", "quantization": {"quant_algo": "FP8", "kv_cache_quant_algo": "FP8"}}),
    ]

    assert [getattr(item, "quantization", item).kv_cache_bits for item in found] == [8, 8]


def test_gptq_s_own_file_beside_the_config_is_read() -> None:
    found = spec_from_config(LLAMA, "m", quantize_config={"bits": 4, "group_size": 128, "sym": True})

    assert found.quantization is not None
    assert (found.quantization.method, found.quantization.words) == ("auto_gptq", "GPTQ 4-bit, groups of 128")


@pytest.mark.parametrize(
    ("quantization", "version", "capability", "code", "word"),
    [
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "0.32.0", (9, 0), "quantization-dropped", "0.28"),
        ({"quant_method": "squeezellm"}, "0.26.0", (9, 0), "quantization-dropped", "squeezellm"),
        ({"quant_method": "gguf"}, "0.26.0", (9, 0), "quantization-dropped", "gguf"),
        ({"quant_method": "aqlm"}, "0.33.0", (9, 0), "quantization-dropped", "aqlm"),
        ({"quant_method": "never_heard"}, "0.33.0", (9, 0), "quantization-dropped", "never_heard"),
        ({"quant_method": "gptq", "bits": 4, "sym": False}, "0.32.0", (9, 0), "quantization-unsupported", "asymmetric"),
        ({"quant_method": "gptq", "bits": 3, "sym": True}, "0.32.0", (9, 0), "quantization-unsupported", "3 bits"),
        ({"quant_method": "gptq", "bits": 4, "group_size": 48}, "0.32.0", None, "quantization-unsupported", "48"),
        ({"quant_method": "mxfp4"}, "0.32.0", (7, 5), "quantization-capability", "8.0"),
        ({"quant_method": "awq", "bits": 4}, "0.32.0", (7, 0), "quantization-capability", "7.5"),
        ({"quant_method": "modelopt", "quant_algo": "FP8"}, "0.32.0", (8, 6), "quantization-capability", "8.9"),
    ],
)
def test_what_vllm_or_the_card_cannot_run_is_refused_by_name(
    quantization: dict[str, Any], version: str, capability: tuple[int, int] | None, code: str, word: str
) -> None:
    problems = refuse_quantization(spec(quantization), version, capability)

    assert [problem.code for problem in problems] == [code]
    assert word in problems[0].what
    assert problems[0].where == "m"
    assert problems[0].next_step


@pytest.mark.parametrize(
    ("quantization", "version", "capability"),
    [
        ({"quant_method": "awq", "bits": 4, "group_size": 128}, "0.24.0", (7, 5)),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "0.27.0", (8, 0)),
        ({"quant_method": "fp8"}, "0.33.0", (8, 0)),
        ({"quant_method": "modelopt", "quant_algo": "FP8"}, "0.33.0", (8, 6)),
        (COMPRESSED, "0.26.0", (8, 9)),
    ],
)
def test_what_runs_is_not_refused(quantization: dict[str, Any], version: str, capability: tuple[int, int]) -> None:
    assert refuse_quantization(spec(quantization), version, capability) == []


def test_a_model_in_16_bits_has_nothing_to_refuse() -> None:
    assert refuse_quantization(spec_from_config(LLAMA, "m"), "0.33.0", (7, 5)) == []
    assert refuse_quantization(None, "0.33.0") == []


def test_every_reason_is_given_at_once() -> None:
    both = Quantization(method="bitsandbytes", weight_bits=4, refused="a variant of it")

    assert [problem.code for problem in refuse_quantization(both, "0.32.0", (8, 0))] == [
        "quantization-dropped",
        "quantization-unsupported",
    ]


@pytest.mark.parametrize(
    "quantization",
    [
        {"quant_method": "awq", "bits": "four"},
        {"quant_method": "fp8", "weight_block_size": [0, 128]},
        {"quant_method": 7},
        {"quant_method": "compressed-tensors", "config_groups": {"group_0": {"weights": "8"}}},
    ],
)
def test_nonsense_in_the_quantisation_is_one_clear_line(quantization: dict[str, Any]) -> None:
    with pytest.raises(RackhandError) as caught:
        spec(quantization)

    assert caught.value.code == "model-config"
