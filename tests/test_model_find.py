"""Finding a model: on a hub with few small requests, again without the network, and in the catalogue."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from rackhand.catalog.models import model_book
from rackhand.errors import RackhandError
from rackhand.models import cache, hub
from rackhand.models.find import find
from rackhand.models.spec import ModelSpec
from tests.model_files import CONFIG, header, index, shapes
from tests.small_hub import COMMIT, SmallHub, serve

NOWHERE = "http://127.0.0.1:9"  # the discard port: nothing listens there
TOKEN = "hf_secret"
GPTQ = {"bits": 4, "group_size": 64, "sym": True}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "ROOT", tmp_path / "hub")


@pytest.fixture
def single() -> Iterator[SmallHub]:
    """A repository whose weights are one file."""
    files = {"config.json": json.dumps(CONFIG).encode(), "model.safetensors": header(shapes()) + bytes(1000)}
    with serve(SmallHub(files=files)) as running:
        yield running


def ask(running: SmallHub, model: str = "owner/model", **more: Any) -> ModelSpec:
    return find(model, endpoint=running.url, **more)


def refusal(running: SmallHub, model: str = "owner/model", **more: Any) -> RackhandError:
    with pytest.raises(RackhandError) as caught:
        ask(running, model, **more)
    return caught.value


def test_a_single_file_is_read_by_ranges_of_its_header(single: SmallHub) -> None:
    found = ask(single)
    ranges = [(path, part) for path, _, part in single.asked if path.endswith(".safetensors")]

    assert (found.name, found.revision, found.weights_source) == ("owner/model", COMMIT, "headers")
    assert found.weight_bytes == 2 * found.parameters
    assert ranges == [
        ("/owner/model/resolve/main/model.safetensors", "bytes=0-7"),
        ("/owner/model/resolve/main/model.safetensors", f"bytes=8-{len(header(shapes())) - 1}"),
    ]


def test_a_hub_that_ignores_ranges_is_read_no_further_than_the_header(single: SmallHub) -> None:
    single.ranges = False

    assert ask(single).weights_source == "headers"


def test_an_index_is_enough(single: SmallHub) -> None:
    single.files |= {"model.safetensors.index.json": index(shapes())}

    assert ask(single).weights_source == "headers"
    assert not [path for path, _, _ in single.asked if path.endswith(".safetensors")]


def test_gptq_s_own_file_is_asked_for_when_the_config_says_nothing(single: SmallHub) -> None:
    single.files |= {"quantize_config.json": json.dumps(GPTQ).encode()}
    quantization = ask(single).quantization

    assert quantization is not None
    assert quantization.method == "auto_gptq"


def test_a_repository_without_safetensors_is_computed(single: SmallHub) -> None:
    del single.files["model.safetensors"]

    assert ask(single).weights_source == "computed"


def test_a_second_call_with_the_network_cut_gives_the_same(single: SmallHub) -> None:
    first = ask(single)

    assert find("owner/model", endpoint=NOWHERE) == first
    assert find(f"owner/model@{COMMIT}", endpoint=NOWHERE) == first


def test_a_pinned_revision_is_asked_for_once(single: SmallHub) -> None:
    first, asked = ask(single, f"owner/model@{COMMIT}"), len(single.asked)

    assert ask(single, revision=COMMIT) == first
    assert len(single.asked) == asked


def test_a_branch_is_asked_for_again(single: SmallHub) -> None:
    ask(single)
    single.files["config.json"] = json.dumps({**CONFIG, "max_position_embeddings": 4096}).encode()

    assert ask(single).max_context == 4096


def test_a_damaged_cache_is_as_good_as_none(single: SmallHub) -> None:
    first = ask(single)
    for path in cache.ROOT.rglob("*.json"):
        path.write_text('{"config": 1}')

    assert ask(single, revision=COMMIT) == first


def test_the_token_goes_to_the_hub_and_nowhere_else(single: SmallHub) -> None:
    with serve(SmallHub(files=single.files)) as elsewhere:
        single.away, single.token = elsewhere.url.replace("127.0.0.1", "localhost"), TOKEN
        found = ask(single, token=SecretStr(TOKEN))

    assert found.weights_source == "headers"
    assert {token for _, token, _ in single.asked} == {TOKEN}
    assert {token for _, token, _ in elsewhere.asked} == {""}
    assert len(elsewhere.asked) == 2
    assert all(TOKEN not in path.read_text() for path in cache.ROOT.rglob("*.json"))


@pytest.mark.parametrize(("gated", "word"), [(True, "gated"), (False, "private")])
def test_a_gated_model_asks_for_the_token(single: SmallHub, gated: bool, word: str) -> None:
    single.token, single.gated = TOKEN, gated
    error = refusal(single, token=SecretStr("hf_wrong"))

    assert error.code == "hub-refused"
    assert word in error.what
    assert "model_hub_token_from" in error.next_step
    assert "hf_wrong" not in str(error)


@pytest.mark.parametrize("model", ["owner/other", "owner/model@v9", "owner/model@" + "f" * 40])
def test_what_the_hub_does_not_have_is_missing(single: SmallHub, model: str) -> None:
    assert refusal(single, model).code == "hub-missing"


def test_a_repository_without_config_is_missing(single: SmallHub) -> None:
    del single.files["config.json"]
    error = refusal(single)

    assert (error.code, "config.json" in error.what) == ("hub-missing", True)


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_hub_in_trouble_is_unreachable(single: SmallHub, status: int) -> None:
    single.broken = status
    error = refusal(single)

    assert (error.code, str(status) in error.what) == ("hub-unreachable", True)


def test_no_hub_at_all_is_unreachable() -> None:
    with pytest.raises(RackhandError) as caught:
        find("owner/model", endpoint=NOWHERE)

    assert caught.value.code == "hub-unreachable"
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("endpoint", ["nonsense", "ftp://127.0.0.1/x", "http://[", "http://127.0.0.1:99999"])
def test_an_endpoint_that_is_none_is_unreachable(endpoint: str) -> None:
    with pytest.raises(RackhandError) as caught:
        find("owner/model", endpoint=endpoint)

    assert caught.value.code == "hub-unreachable"


@pytest.mark.parametrize(("name", "raw"), [("config.json", b"<html>"), ("model.safetensors", b"<html></html>")])
def test_files_that_are_something_else_are_refused(single: SmallHub, name: str, raw: bytes) -> None:
    single.files[name] = raw

    assert refusal(single).code == "model-config"


def test_the_catalogue_answers_for_a_hub_that_cannot_be_reached() -> None:
    row = next(row for row in model_book() if row.id == "qwen3-8b")
    found = find(row.hub_id, endpoint=NOWHERE)

    assert (found.weights_source, found.revision) == ("declared", row.revision)
    assert found.weight_bytes == row.weight_bytes
    assert find(f"{row.hub_id}@{row.revision}", endpoint=NOWHERE) == found


def test_the_catalogue_does_not_answer_for_another_revision() -> None:
    row = next(row for row in model_book() if row.id == "qwen3-8b")

    with pytest.raises(RackhandError) as caught:
        find(f"{row.hub_id}@{COMMIT}", endpoint=NOWHERE)

    assert caught.value.code == "hub-unreachable"


def test_a_catalogue_name_needs_no_network() -> None:
    row = next(row for row in model_book() if row.id == "qwen3-8b")

    assert find("qwen3-8b").name == row.hub_id


@pytest.mark.parametrize(
    ("model", "code"),
    [
        ("/no/such/directory", "model-missing"),
        ("./nothing", "model-missing"),
        ("", "model-missing"),
        ("no-such-model", "unknown-model"),
        ("a/b/c", "unknown-model"),
    ],
)
def test_a_name_that_means_nothing_is_refused(model: str, code: str) -> None:
    with pytest.raises(RackhandError) as caught:
        find(model)

    assert caught.value.code == code


def test_an_empty_directory_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(RackhandError) as caught:
        find(str(tmp_path))

    assert caught.value.code == "model-missing"


def test_the_default_hub_is_the_public_one() -> None:
    assert hub.ENDPOINT == "https://huggingface.co"
