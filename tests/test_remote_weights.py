"""Weights and programs are believed by their checksum, and are in place completely or not at all."""

import hashlib
import json
import os
import pwd
from pathlib import Path
from typing import Any

import pytest

from rackhand.remote import state, venv, weights
from rackhand.remote.problem import Problem

MODEL = "tiny@0123456789ab"
FILES = {"config.json": b"{}", "model.safetensors": b"weights" * 9, "deep/tokenizer.json": b"[]"}


@pytest.fixture(autouse=True)
def owners(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Record who would own what: these tests need no root."""
    seen: list[tuple[str, int]] = []
    monkeypatch.setattr(os, "chown", lambda path, uid, gid: seen.append((Path(path).name, uid)))
    monkeypatch.setenv("SUDO_USER", pwd.getpwuid(os.getuid()).pw_name)
    return seen


def wanted() -> list[dict[str, Any]]:
    return [
        {"path": path, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()} for path, data in FILES.items()
    ]


def upload(root: Path, **changed: bytes) -> Path:
    """Do what the controller does: ask where to, and put what is missing there."""
    answer = weights.open_incoming(str(root), MODEL, wanted())
    place = Path(answer["place"])
    for path in answer["missing"]:
        (place / path).write_bytes(changed.get(Path(path).stem, FILES[path]))
    return place


def test_an_upload_that_arrived_whole_is_moved_into_place_with_its_record(root: Path) -> None:
    incoming = upload(root)
    weights.accept(str(root), MODEL, wanted(), "path:tiny")
    place = root / "models" / MODEL
    assert {path: (place / path).read_bytes() for path in FILES} == FILES
    record = json.loads((place / "rackhand.json").read_text())
    assert (record["source"], record["bytes"]) == ("path:tiny", sum(map(len, FILES.values())))
    assert record["files"] == wanted()
    assert not incoming.exists()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "models").mkdir()
    (tmp_path / "bin").mkdir()
    return tmp_path


def test_only_what_is_missing_or_damaged_is_asked_for_again(root: Path) -> None:
    place = upload(root, model=b"damaged" * 9)
    assert weights.open_incoming(str(root), MODEL, wanted())["missing"] == ["model.safetensors"]
    (place / "model.safetensors").write_bytes(FILES["model.safetensors"])
    (place / "config.json").unlink()
    assert weights.open_incoming(str(root), MODEL, wanted())["missing"] == ["config.json"]


@pytest.mark.parametrize("damaged", [b"", b"weights" * 8, b"Weights" * 9])
def test_a_damaged_file_is_named_and_nothing_is_moved(root: Path, damaged: bytes) -> None:
    upload(root, model=damaged)
    with pytest.raises(Problem) as caught:
        weights.accept(str(root), MODEL, wanted(), "path:tiny")
    assert caught.value.code == "model-checksum"
    assert "model.safetensors" in caught.value.what
    assert "config.json" not in caught.value.what
    assert not (root / "models" / MODEL).exists()


def test_a_missing_file_is_named_as_well(root: Path) -> None:
    (upload(root) / "deep/tokenizer.json").unlink()
    with pytest.raises(Problem) as caught:
        weights.accept(str(root), MODEL, wanted(), "path:tiny")
    assert "deep/tokenizer.json" in caught.value.what


def test_the_login_user_may_write_what_comes_in_and_root_owns_what_is_there(
    root: Path, owners: list[tuple[str, int]]
) -> None:
    upload(root)
    assert {uid for _, uid in owners} == {os.getuid()}
    assert {name for name, _ in owners} == {MODEL, "deep"}
    owners.clear()
    weights.accept(str(root), MODEL, wanted(), "path:tiny")
    assert {uid for _, uid in owners} == {0}
    for path in FILES:
        assert (root / "models" / MODEL / path).stat().st_mode & 0o777 == 0o644


def test_new_weights_replace_a_damaged_place(root: Path) -> None:
    (root / "models" / MODEL).mkdir()
    (root / "models" / MODEL / "half").touch()
    upload(root)
    weights.accept(str(root), MODEL, wanted(), "path:tiny")
    assert not (root / "models" / MODEL / "half").exists()


def asked(root: Path) -> dict[str, Any]:
    return state.state(str(root), "none", MODEL, "uv-1", "nobody-here")


def test_the_state_tells_complete_weights_from_truncated_and_absent_ones(root: Path) -> None:
    assert (asked(root)["model"], asked(root)["model_intact"]) == ({}, False)
    upload(root)
    assert not asked(root)["model_intact"]
    weights.accept(str(root), MODEL, wanted(), "path:tiny")
    assert asked(root)["model_intact"]
    (root / "models" / MODEL / "model.safetensors").write_bytes(b"short")
    assert not asked(root)["model_intact"]
    (root / "models" / MODEL / "rackhand.json").write_text("[not a record")
    assert (asked(root)["model"], asked(root)["model_intact"]) == ({}, False)


def test_an_uploaded_uv_is_believed_by_its_checksum(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.chown", lambda *_: None)
    uploaded = root / "incoming" / "uv" / "uv-1"
    uploaded.parent.mkdir(parents=True)
    uploaded.write_bytes(b"half of uv")
    with pytest.raises(Problem) as caught:
        venv.accept_uv(str(root), "uv-1", hashlib.sha256(b"uv").hexdigest())
    assert (caught.value.code, asked(root)["uv"]) == ("upload", False)
    uploaded.write_bytes(b"uv")
    venv.accept_uv(str(root), "uv-1", hashlib.sha256(b"uv").hexdigest())
    assert asked(root)["uv"]
    assert (root / "bin" / "uv-1").stat().st_mode & 0o777 == 0o755
