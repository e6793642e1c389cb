"""Files on a host are old or new, never half, never readable by more than their mode says, and nothing is left over."""

import errno
import json
import os
import re
import stat
from pathlib import Path
from typing import Any

import pytest

from rackhand.remote import files


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_file_gets_its_content_its_mode_and_its_directories(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file"
    assert files.write(path, "text", 0o600)
    assert (path.read_text(), mode(path)) == ("text", 0o600)


@pytest.mark.parametrize("umask", [0o000, 0o077, 0o777])
def test_the_umask_of_the_host_does_not_matter(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        files.write(tmp_path / "file", "text", 0o644)
    finally:
        os.umask(before)
    assert mode(tmp_path / "file") == 0o644


def test_bytes_are_written_as_they_are(tmp_path: Path) -> None:
    files.write(tmp_path / "file", b"\x00\xff")
    assert (tmp_path / "file").read_bytes() == b"\x00\xff"


def test_the_same_again_changes_nothing(tmp_path: Path) -> None:
    files.write(tmp_path / "file", "text", 0o600)
    before = (tmp_path / "file").stat()
    assert not files.write(tmp_path / "file", "text", 0o600)
    assert (tmp_path / "file").stat().st_mtime_ns == before.st_mtime_ns
    assert (tmp_path / "file").stat().st_ino == before.st_ino


@pytest.mark.parametrize(("content", "permissions"), [("other", 0o600), ("text", 0o644)])
def test_another_content_or_mode_replaces_the_file(tmp_path: Path, content: str, permissions: int) -> None:
    files.write(tmp_path / "file", "text", 0o600)
    assert files.write(tmp_path / "file", content, permissions)
    assert ((tmp_path / "file").read_text(), mode(tmp_path / "file")) == (content, permissions)


def test_a_symlink_is_replaced_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("text")
    (tmp_path / "file").symlink_to("elsewhere")
    assert files.write(tmp_path / "file", "text")
    assert not (tmp_path / "file").is_symlink()


def test_a_reader_that_has_the_file_open_keeps_the_old_content(tmp_path: Path) -> None:
    files.write(tmp_path / "file", "old")
    with (tmp_path / "file").open() as reader:
        files.write(tmp_path / "file", "new and longer")
        assert reader.read() == "old"


def test_the_secret_is_never_in_a_file_with_a_looser_mode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop right before the rename and look at what lies there."""
    found: list[int] = []

    def look(descriptor: int) -> None:
        found.append(stat.S_IMODE(os.fstat(descriptor).st_mode))

    monkeypatch.setattr(os, "fsync", look)
    files.write(tmp_path / ".env", "SECRET", 0o600)
    assert found == [0o600]


def test_a_leftover_that_somebody_holds_open_does_not_get_the_secret(tmp_path: Path) -> None:
    leftover = tmp_path / ".file.rackhand-new"
    leftover.write_text("from an interrupted run")
    leftover.chmod(0o666)
    with leftover.open() as spy:
        files.write(tmp_path / "file", "SECRET", 0o600)
        assert "SECRET" not in spy.read()


def test_a_leftover_symlink_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("untouched")
    (tmp_path / ".file.rackhand-new").symlink_to("victim")
    files.write(tmp_path / "file", "text")
    assert (tmp_path / "victim").read_text() == "untouched"
    assert not (tmp_path / "file").is_symlink()


def full_disk(*_: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("broken", ["fsync", "fchmod"])
def test_a_failure_keeps_the_old_file_and_leaves_no_temporary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    files.write(tmp_path / "file", "old", 0o600)
    monkeypatch.setattr(os, broken, full_disk)
    with pytest.raises(OSError, match="No space left"):
        files.write(tmp_path / "file", "new", 0o600)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "old"


def test_a_link_is_swapped_in_one_step_and_only_when_it_differs(tmp_path: Path) -> None:
    assert files.link(tmp_path / "current", "releases/a")
    assert not files.link(tmp_path / "current", "releases/a")
    assert files.link(tmp_path / "current", "releases/b")
    assert str((tmp_path / "current").readlink()) == "releases/b"
    assert [path.name for path in tmp_path.iterdir()] == ["current"]


def test_a_link_survives_the_leftover_of_an_interrupted_run(tmp_path: Path) -> None:
    (tmp_path / ".current.rackhand-new").symlink_to("releases/half")
    assert files.link(tmp_path / "current", "releases/a")
    assert str((tmp_path / "current").readlink()) == "releases/a"


def test_a_tree_is_removed_and_a_missing_one_is_fine(tmp_path: Path) -> None:
    (tmp_path / "tree" / "deep").mkdir(parents=True)
    (tmp_path / "tree" / "deep" / "file").touch()
    files.remove_tree(tmp_path / "tree")
    files.remove_tree(tmp_path / "tree")
    assert not (tmp_path / "tree").exists()


def test_a_digest_is_that_of_sha256sum(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    assert files.sha256(tmp_path / "file") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_the_ledger_grows_by_one_dated_line_and_never_changes_an_old_one(tmp_path: Path) -> None:
    root = tmp_path / "rackhand"
    files.record(str(root), {"run": "r1", "step": "driver", "version": "580.1"})
    first = (root / "ledger.jsonl").read_text()
    files.record(str(root), {"run": "r1", "step": "gate", "verdict": "passed\nnot a second line"})
    text = (root / "ledger.jsonl").read_text()
    assert text.startswith(first)
    lines = [json.loads(line) for line in text.splitlines()]
    assert [line["step"] for line in lines] == ["driver", "gate"]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", line["time"]) for line in lines)
    assert mode(root / "ledger.jsonl") & 0o007 == 0
