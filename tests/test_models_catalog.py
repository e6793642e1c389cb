"""The table of models names exact revisions, and a model is found by what a person types."""

from pathlib import Path

import pytest
import yaml

from rackhand.catalog.book import HERE
from rackhand.catalog.models import ModelRow, model, model_book
from rackhand.errors import RackhandError
from rackhand.models.config import spec_from_config


@pytest.mark.parametrize("name", ["llama-3.1-8b-instruct", "Llama-3.1-8B-Instruct", "meta-llama/llama-3.1-8b-instruct"])
def test_a_model_is_found_by_its_id_or_hub_id_in_any_case(name: str) -> None:
    found = model(name)
    assert found.hub_id == "meta-llama/Llama-3.1-8B-Instruct"
    assert found.revision == "0e9e39f249a16976918f6564b8830bc894c89659"
    assert found.weight_bytes == 2 * found.parameters == 16060522496


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("llama-3.1-8b", "llama-3.1-8b-instruct"),
        ("Qwen/Qwen3-8", "qwen3-8b"),
        ("mixtral", "mixtral-8x7b-instruct-v0.1"),
        ("qwen2.5-7b-instrct", "qwen2.5-7b-instruct"),
        ("no such thing", "a hub id"),
    ],
)
def test_an_unknown_model_is_answered_with_the_nearest(name: str, near: str) -> None:
    with pytest.raises(RackhandError, match="has no model") as error:
        model(name, where="--model")
    assert (error.value.code, error.value.where) == ("unknown-model", "--model")
    assert near in error.value.next_step


def test_a_users_own_file_adds_models_and_wins_over_ours(tmp_path: Path) -> None:
    row = yaml.safe_load((HERE / "models.yaml").read_text())["models"][0]
    own = {**row, "hub_id": "acme/own", "source": ["us"]}
    other = {**own, "id": "acme-7b"}
    path = tmp_path / "models.yaml"
    path.write_text(yaml.safe_dump({"sources": {"us": "our own measurement"}, "models": [own, other]}))
    assert model(row["id"], path).hub_id == "acme/own"
    assert model("acme-7b", path).id == "acme-7b"
    assert len(model_book(path)) == len(model_book()) + 1
    assert model(row["id"]).hub_id == row["hub_id"]


def test_a_users_own_file_is_checked_like_ours(tmp_path: Path) -> None:
    path = tmp_path / "models.yaml"
    path.write_text("sources: {}\nmodels: [{id: x, revision: main}]\n")
    with pytest.raises(RackhandError, match="revision") as error:
        model_book(path)
    assert (error.value.code, error.value.where) == ("catalog", str(path))


@pytest.mark.parametrize("row", model_book(), ids=lambda row: row.id)
def test_a_spec_computed_from_a_row_has_the_parameters_and_bytes_of_the_row(row: ModelRow) -> None:
    spec = spec_from_config(row.config, row.id, quantize_config=row.quantize_config)
    assert spec.parameters == pytest.approx(row.parameters, rel=1e-3)
    assert spec.weight_bytes == pytest.approx(row.weight_bytes, rel=1e-2)


def test_the_book_holds_what_people_serve_from_3_to_700_billion_parameters() -> None:
    rows = model_book()
    assert len(rows) >= 19
    assert min(row.parameters for row in rows) < 3.3e9
    assert any(6.5e11 < row.parameters < 7e11 for row in rows)
    methods = {row.config.get("quantization_config", row.quantize_config or {}).get("quant_method") for row in rows}
    assert {None, "awq", "fp8", "mxfp4", "compressed-tensors"} <= methods
    kinds = {row.config["model_type"] for row in rows}
    assert {"llama", "qwen3_moe", "deepseek_v3", "gpt_oss", "gemma3", "qwen3_next"} <= kinds


@pytest.mark.parametrize(
    ("name", "gib"),
    [
        ("mistral-7b-v0.3", 13.50),
        ("llama-3.3-70b-instruct", 131.42),
        ("deepseek-r1-distill-qwen-14b", 27.51),
        ("phi-4", 27.31),
        ("gemma-3-27b-it", 51.10),
        ("llama-3.3-70b-instruct-fp8", 67.7),
        ("llama-2-13b-chat-awq", 6.75),
    ],
)
def test_weights_are_as_large_as_others_say_the_files_are(name: str, gib: float) -> None:
    assert model(name).weight_bytes / 2**30 == pytest.approx(gib, rel=2e-3)
