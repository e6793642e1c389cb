"""The emulated driver libraries: libnvidia-ml.so.1 and libcuda.so.1, compiled once per driver version."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from rackhand.lab import lock, places, shell

HERE = Path(__file__).parent
NVML_SOURCES = ("fleet.c", "nvml.c", "nvml_state.c", "nvml_links.c", "nvml_fabric.c", "nvml_set.c", "nvml_mig.c")
CUDA_SOURCES = ("fleet.c", "cuda.c")
# C99 and plain POSIX: then glibc 2.38 and newer emit no symbols that older hosts lack.
FLAGS = ("-std=c99", "-D_POSIX_C_SOURCE=200809L", "-O1", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared", "-s")
BUILD_TIMEOUT_S = 120


@dataclass(frozen=True, kw_only=True)
class Libraries:
    """The compiled libraries of one driver version."""

    nvml: Path
    cuda: Path


def build(driver_version: str, cuda_version: int) -> Libraries:
    """Return the libraries of `driver_version`, from the cache or compiled with gcc; CUDA 13.0 is 13000."""
    folder = places.cache() / "nvml" / f"{digest()}-{driver_version}-{cuda_version}"
    built = Libraries(nvml=folder / "libnvidia-ml.so.1", cuda=folder / "libcuda.so.1")
    with lock.exclusive(places.locks() / "nvml.lock", BUILD_TIMEOUT_S):
        folder.mkdir(parents=True, exist_ok=True)
        defines = (f'-DDRIVER_VERSION="{driver_version}"', f"-DCUDA_VERSION={cuda_version}")
        _compile(built.nvml, NVML_SOURCES, defines)
        _compile(built.cuda, CUDA_SOURCES, defines)
    return built


def build_module(driver_version: str, source: Path) -> Path:
    """Return an object file that stands for nvidia.ko of `driver_version`: modinfo reads it, no kernel loads it."""
    whole = hashlib.sha256(source.read_bytes() + driver_version.encode()).hexdigest()[:12]
    module = places.cache() / "nvml" / f"module-{whole}.ko"
    with lock.exclusive(places.locks() / "nvml.lock", BUILD_TIMEOUT_S):
        if not module.exists():
            module.parent.mkdir(parents=True, exist_ok=True)
            draft = module.with_suffix(".draft")
            shell.run(["gcc", "-c", f'-DDRIVER_VERSION="{driver_version}"', "-o", str(draft), str(source)])
            draft.rename(module)
    return module


def _compile(target: Path, sources: tuple[str, ...], defines: tuple[str, ...]) -> None:
    if target.exists():
        return
    draft = target.with_suffix(".draft")
    files = [str(HERE / source) for source in sources]
    shell.run(["gcc", *FLAGS, f"-Wl,-soname,{target.name}", *defines, "-o", str(draft), *files])
    draft.rename(target)


def digest() -> str:
    """Return the digest of the sources and the flags."""
    whole = hashlib.sha256(repr(FLAGS).encode())
    for source in sorted(HERE.glob("*.[ch]")):
        whole.update(source.read_bytes())
    return whole.hexdigest()[:12]
