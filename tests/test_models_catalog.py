"""The table of models names exact revisions, and a model is found by what a person types."""

from pathlib import Path

import pytest
import yaml

from rackhand.catalog.book import HERE
from rackhand.catalog.models import model, model_book
from rackhand.errors import RackhandError


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
