"""The tiny model is complete, well formed and always the same."""

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from rackhand.lab import tiny_model


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return tiny_model.build(tmp_path / "tiny")


def document(model: Path, name: str) -> Any:
    return json.loads((model / name).read_text(encoding="utf-8"))


def header(model: Path) -> tuple[dict[str, Any], int]:
    """Read the safetensors header and the length of the data behind it, in bytes."""
    raw = (model / "model.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    tensors = json.loads(raw[8 : 8 + length])
    tensors.pop("__metadata__")
    return tensors, len(raw) - 8 - length


def test_it_has_the_files_that_a_loader_asks_for(model: Path) -> None:
    assert set(tiny_model.checksums(model)) == {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }


def test_two_builds_are_the_same_bytes(model: Path, tmp_path: Path) -> None:
    assert tiny_model.checksums(model) == tiny_model.checksums(tiny_model.build(tmp_path / "again"))


def test_its_tensors_fill_the_file_without_gap_or_overlap(model: Path) -> None:
    tensors, data_bytes = header(model)
    position = 0
    for tensor in tensors.values():
        start, end = tensor["data_offsets"]
        rows, *columns = tensor["shape"]
        assert start == position
        assert end - start == 4 * rows * (columns[0] if columns else 1)
        position = end
    assert position == data_bytes


def test_its_data_starts_on_eight_bytes(model: Path) -> None:
    (length,) = struct.unpack("<Q", (model / "model.safetensors").read_bytes()[:8])
    assert length % 8 == 0


@pytest.mark.parametrize("head_dim", [16, 32])
def test_its_projections_have_the_shapes_of_its_configuration(tmp_path: Path, head_dim: int) -> None:
    model = tiny_model.build(tmp_path, head_dim)
    config = document(model, "config.json")
    tensors, _ = header(model)
    assert config["head_dim"] == head_dim
    attention = "model.layers.1.self_attn"
    assert tensors[f"{attention}.q_proj.weight"]["shape"] == [config["num_attention_heads"] * head_dim, 64]
    assert tensors[f"{attention}.k_proj.weight"]["shape"] == [config["num_key_value_heads"] * head_dim, 64]
    assert tensors["lm_head.weight"]["shape"] == [config["vocab_size"], config["hidden_size"]]


def test_its_weights_are_neither_zero_nor_wild(model: Path) -> None:
    raw = (model / "model.safetensors").read_bytes()
    values = struct.unpack("<20480f", raw[-4 * 20480 :])
    assert max(values) < 0.04
    assert min(values) > -0.04
    assert len(set(values)) > 20000


def test_its_vocabulary_spells_every_byte(model: Path) -> None:
    vocabulary = document(model, "tokenizer.json")["model"]["vocab"]
    assert sorted(vocabulary.values()) == list(range(259))
    assert [vocabulary[token] for token in ("<unk>", "<s>", "</s>")] == [0, 1, 2]
    assert {"A", "z", "~", "Ġ", "Ċ"} <= set(vocabulary)
    assert max(vocabulary.values()) < document(model, "config.json")["vocab_size"]
