"""A model directory is described by the content of its files, and doubted when it is not what somebody promised."""

import hashlib
import json
import os
from pathlib import Path

import pytest

from rackhand import weights
from rackhand.errors import RackhandError

CONFIG = {"max_position_embeddings": 256}


@pytest.fixture(autouse=True)
def hashes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep the cache of checksums out of the home directory."""
    place = tmp_path / "cache" / "sha256.json"
    monkeypatch.setattr(weights, "HASHES", place)
    return place


@pytest.fixture
def model(tmp_path: Path) -> Path:
    place = tmp_path / "tiny"
    (place / "deep").mkdir(parents=True)
    (place / "config.json").write_text(json.dumps(CONFIG))
    (place / "model.safetensors").write_bytes(b"w" * 100)
    (place / "deep" / "tokenizer.json").write_text("[]")
    return place


def refusal(place: Path, revision: str | None = None) -> RackhandError:
    with pytest.raises(RackhandError) as caught:
        weights.local(place, "tiny", revision)
    assert caught.value.where == str(place)
    assert caught.value.next_step
    return caught.value


def test_every_file_is_listed_with_its_size_and_checksum(model: Path) -> None:
    found = weights.local(model, "tiny", None)
    assert [file.path for file in found.files] == ["config.json", "deep/tokenizer.json", "model.safetensors"]
    assert found.files[2].sha256 == hashlib.sha256(b"w" * 100).hexdigest()
    assert (found.weight_bytes, found.total_bytes) == (100, 100 + 2 + len(json.dumps(CONFIG)))
    assert found.directory == model


def test_the_id_follows_from_name_and_content_alone(model: Path, tmp_path: Path) -> None:
    first = weights.local(model, "tiny", None)
    assert first.id == f"tiny@{first.revision[:12]}"
    model.rename(tmp_path / "moved")
    assert weights.local(tmp_path / "moved", "tiny", None).id == first.id
    (tmp_path / "moved" / "model.safetensors").write_bytes(b"w" * 99 + b"x")
    assert weights.local(tmp_path / "moved", "tiny", None).id != first.id


def test_hidden_files_and_directories_are_left_out(model: Path) -> None:
    before = weights.local(model, "tiny", None)
    (model / ".cache" / "huggingface").mkdir(parents=True)
    (model / ".cache" / "huggingface" / "lock").touch()
    (model / ".gitattributes").touch()
    assert weights.local(model, "tiny", None) == before


def test_the_links_of_a_hub_cache_are_followed(model: Path, tmp_path: Path) -> None:
    (model / "model.safetensors").rename(tmp_path / "blob")
    (model / "model.safetensors").symlink_to(tmp_path / "blob")
    assert weights.local(model, "tiny", None).weight_bytes == 100


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors"])
def test_a_directory_without_its_main_files_is_refused(model: Path, missing: str) -> None:
    (model / missing).unlink()
    error = refusal(model)
    assert error.code == "model-missing"
    assert missing.removeprefix("model") in error.what


def test_a_directory_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none").code == "model-missing"


def test_a_file_that_may_not_be_read_is_named(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied", str(model / "model.safetensors"))

    monkeypatch.setattr(weights.hashlib, "file_digest", refuse)  # type: ignore[attr-defined]
    error = refusal(model)
    assert error.code == "model-missing"
    assert "model.safetensors" in error.what
    assert "Permission denied" in error.what


@pytest.mark.parametrize("text", ["", "[]", "null", "{"])
def test_a_config_that_is_no_object_is_refused(model: Path, text: str) -> None:
    (model / "config.json").write_text(text)
    assert refusal(model).code == "model-config"


def test_a_revision_may_be_given_in_full_or_by_its_beginning(model: Path) -> None:
    revision = weights.local(model, "tiny", None).revision
    assert weights.local(model, "tiny", revision).revision == revision
    assert weights.local(model, "tiny", revision[:12]).revision == revision
    error = refusal(model, "0" * 12)
    assert error.code == "model-checksum"
    assert "000000000000" in error.what
    assert revision[:12] in error.what


@pytest.mark.parametrize("form", ["{sum}  {name}", "{sum} *{name}", "{sum}  ./{name}", "{SUM}  {name}"])
def test_checksums_are_believed_in_every_form_that_sha256sum_has(model: Path, form: str) -> None:
    digest = hashlib.sha256(b"w" * 100).hexdigest()
    line = form.format(sum=digest, SUM=digest.upper(), name="model.safetensors")
    (model / "SHA256SUMS").write_text(f"{line}\n\n# a comment\n" if "*" not in form else f"{line}\n")
    weights.local(model, "tiny", None)


@pytest.mark.parametrize("name", ["model.safetensors", "absent.safetensors"])
def test_a_file_that_differs_from_its_checksum_or_is_missing_is_named(model: Path, name: str) -> None:
    (model / "SHA256SUMS").write_text(f"{'0' * 64}  {name}\n")
    error = refusal(model)
    assert error.code == "model-checksum"
    assert name in error.what


def test_checksums_are_cached_until_a_file_changes(model: Path, hashes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = weights.local(model, "tiny", None)
    assert len(json.loads(hashes.read_text())) == 3
    with monkeypatch.context() as patch:
        patch.setattr(weights.hashlib, "file_digest", None)  # type: ignore[attr-defined]
        assert weights.local(model, "tiny", None) == first
    os.utime(model / "model.safetensors", ns=(1, 1))
    (model / "model.safetensors").write_bytes(b"x" * 100)
    assert weights.local(model, "tiny", None).id != first.id


@pytest.mark.parametrize("text", ["", "[1, 2]", "{", "null"])
def test_a_damaged_cache_costs_time_and_nothing_else(model: Path, hashes: Path, text: str) -> None:
    hashes.parent.mkdir()
    hashes.write_text(text)
    assert weights.local(model, "tiny", None).weight_bytes == 100


def test_a_cache_that_cannot_be_written_costs_time_and_nothing_else(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(weights, "HASHES", tmp_path / "file" / "sha256.json")
    assert weights.local(model, "tiny", None).weight_bytes == 100


def test_weights_on_the_hub_are_named_by_their_pinned_revision() -> None:
    found = weights.hub("owner/model", "tiny", "a" * 40)
    assert (found.id, found.source) == ("tiny@aaaaaaaaaaaa", f"owner/model@{'a' * 40}")
    assert (found.weight_bytes, found.files, found.directory) == (0, (), None)
