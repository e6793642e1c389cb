"""Weight bytes from safetensors headers and indexes, in the place of computed ones."""

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from rackhand.errors import RackhandError
from rackhand.models.config import spec_from_config
from rackhand.models.find import find, of_directory
from rackhand.models.spec import ModelSpec, Part
from tests.model_files import CONFIG, Shapes, header, index, shapes

PARAMETERS = 2 * 320 * 64 + 64 + 2 * (2 * 64 * 64 + 2 * 32 * 64 + 3 * 128 * 64 + 2 * 64)
AWQ = {"quant_method": "awq", "bits": 4, "group_size": 64, "zero_point": True}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    return tmp_path


def with_files(directory: Path, tensors: Shapes, **config: Any) -> ModelSpec:
    (directory / "config.json").write_text(json.dumps({**CONFIG, **config}))
    (directory / "model.safetensors").write_bytes(header(tensors))
    return of_directory(directory)


def part(found: ModelSpec, name: str) -> Part:
    return next(item for item in found.parts if item.name == name)


def test_a_directory_with_only_a_config_is_computed(directory: Path) -> None:
    found = find(str(directory))

    assert found.weights_source == "computed"
    assert (found.parameters, found.weight_bytes) == (PARAMETERS, 2 * PARAMETERS)


def test_headers_agree_with_what_is_computed_part_by_part(directory: Path) -> None:
    computed = of_directory(directory)
    found = with_files(directory, shapes())

    assert found.weights_source == "headers"
    assert found.parts == computed.parts


def test_weights_in_32_bits_are_loaded_in_16(directory: Path) -> None:
    assert with_files(directory, shapes("F32"), torch_dtype="float32").weight_bytes == 2 * PARAMETERS


def test_packed_weights_take_the_bytes_of_their_files(directory: Path) -> None:
    tensors = shapes()
    del tensors["model.layers.0.mlp.down_proj.weight"]
    packed = {
        "model.layers.0.mlp.down_proj.qweight": ("I32", (128, 8)),
        "model.layers.0.mlp.down_proj.scales": ("BF16", (2, 64)),
        "model.layers.0.mlp.down_proj.qzeros": ("I32", (2, 8)),
    }
    whole, found = with_files(directory, shapes()), with_files(directory, tensors | packed, quantization_config=AWQ)

    assert part(whole, "mlp").bytes - part(found, "mlp").bytes == 2 * 64 * 128 - (4096 + 256 + 64)
    assert found.parameters == PARAMETERS


def test_fused_queries_keys_and_values_are_divided(directory: Path) -> None:
    tensors = shapes()
    for layer in range(2):
        for name in "qkv":
            del tensors[f"model.layers.{layer}.self_attn.{name}_proj.weight"]
        tensors[f"model.layers.{layer}.self_attn.qkv_proj.weight"] = ("BF16", (128, 64))
    whole, found = with_files(directory, shapes()), with_files(directory, tensors)

    assert found.parts == whole.parts


@pytest.mark.parametrize(
    "extra",
    [
        "model.layers.2.mlp.gate_proj.weight",
        "mtp.layers.0.eh_proj.weight",
        "model.layers.0.self_attn.rotary_emb.inv_freq",
    ],
)
def test_what_vllm_skips_is_not_counted(directory: Path, extra: str) -> None:
    assert with_files(directory, {**shapes(), extra: ("BF16", (128, 64))}).weight_bytes == 2 * PARAMETERS


def test_an_output_layer_that_is_tied_is_not_counted_again(directory: Path) -> None:
    found = with_files(directory, shapes(), tie_word_embeddings=True)

    assert found.weight_bytes == 2 * (PARAMETERS - 320 * 64)


def test_a_second_copy_in_mistral_s_own_format_is_not_counted(directory: Path) -> None:
    (directory / "consolidated.safetensors").write_bytes(header({"tok_embeddings.weight": ("BF16", (320, 64))}))

    assert with_files(directory, shapes()).weight_bytes == 2 * PARAMETERS


def test_a_tower_that_is_not_known_has_the_size_of_its_files(directory: Path) -> None:
    tensors = {**shapes(), "vision_tower.blocks.0.attn.qkv.weight": ("BF16", (300, 100))}
    found = with_files(directory, tensors, vision_config={"hidden_size": 100, "num_hidden_layers": 1})

    assert found.parameters == PARAMETERS + 30_000
    assert found.multimodal == ("vision",)
    assert found.source == ""


def test_an_index_scales_the_packed_parts_to_its_sum(directory: Path) -> None:
    (directory / "config.json").write_text(json.dumps({**CONFIG, "quantization_config": AWQ}))
    computed = of_directory(directory)
    (directory / "model.safetensors.index.json").write_bytes(index(shapes(), computed.weight_bytes + 1000))
    found = of_directory(directory)

    assert found.weights_source == "headers"
    assert found.weight_bytes == computed.weight_bytes + 1000
    assert part(found, "embeddings") == part(computed, "embeddings")


def test_an_index_that_counts_a_tied_output_layer_is_corrected() -> None:
    tied = {**CONFIG, "tie_word_embeddings": True}
    found = spec_from_config(tied, "m", total_bytes=2 * PARAMETERS, tensor_names=tuple(shapes()))

    assert found.weight_bytes == 2 * (PARAMETERS - 320 * 64)


def test_an_index_with_layers_for_speculation_says_nothing_about_the_rest() -> None:
    names = (*shapes(), "model.layers.2.mlp.gate_proj.weight")
    found = spec_from_config(CONFIG, "m", total_bytes=3 * PARAMETERS, tensor_names=names)

    assert (found.weights_source, found.weight_bytes) == ("computed", 2 * PARAMETERS)


def test_an_index_of_32_bit_files_does_not_double_the_weights() -> None:
    assert spec_from_config(CONFIG, "m", total_bytes=4 * PARAMETERS).weight_bytes == 2 * PARAMETERS


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"short",
        struct.pack("<Q", 1 << 60) + b"{}",
        struct.pack("<Q", 20) + b"not json, not at all",
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 8) + b'{"a": 1}',
        struct.pack("<Q", 60) + b'{"a":{"dtype":"BF16","shape":[-2],"data_offsets":[0,2]}}    ',
    ],
)
def test_a_file_that_is_no_safetensors_is_one_clear_line(directory: Path, raw: bytes) -> None:
    (directory / "model.safetensors").write_bytes(raw)

    with pytest.raises(RackhandError) as caught:
        of_directory(directory)

    assert caught.value.code == "model-config"
    assert "model.safetensors" in caught.value.what


@pytest.mark.parametrize("text", ["", "[]", "{", '"x"', "[" * 100_000])
def test_a_config_that_is_no_object_is_one_clear_line(directory: Path, text: str) -> None:
    (directory / "config.json").write_text(text)

    with pytest.raises(RackhandError, match="is not a readable JSON object") as caught:
        of_directory(directory)

    assert caught.value.code == "model-config"
