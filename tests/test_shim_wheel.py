"""The shim is a wheel that installers accept and whose bytes never change."""

import hashlib
import io
import zipfile
from importlib.metadata import Distribution, PathDistribution
from pathlib import Path

from rackhand.lab import wheels
from rackhand.lab.shim_wheel import shim_wheel


def unpacked(tmp_path: Path) -> Distribution:
    zipfile.ZipFile(io.BytesIO(shim_wheel("0.32.0").to_bytes())).extractall(tmp_path)
    return PathDistribution(tmp_path / "vllm-0.32.0+cpu.dist-info")


def test_its_version_tells_vllm_to_run_on_the_cpu(tmp_path: Path) -> None:
    shim = unpacked(tmp_path)
    assert shim.metadata["Name"] == "vllm"
    assert shim.version == "0.32.0+cpu"


def test_it_installs_nothing_but_its_metadata(tmp_path: Path) -> None:
    files = unpacked(tmp_path).files
    assert files is not None
    assert {file.parts[0] for file in files} == {"vllm-0.32.0+cpu.dist-info"}


def test_its_record_digests_every_file(tmp_path: Path) -> None:
    files = unpacked(tmp_path).files
    assert files is not None
    recorded = [file for file in files if file.name != "RECORD"]
    assert all(file.hash is not None and file.size == len(file.read_binary()) for file in recorded)


def test_two_builds_are_the_same_bytes(tmp_path: Path) -> None:
    first, second = wheels.build(tmp_path / "a"), wheels.build(tmp_path / "b")
    assert first == second
    for name, sha256 in first.items():
        assert hashlib.sha256((tmp_path / "b" / name).read_bytes()).hexdigest() == sha256
