"""The stand-in engine as a wheel named `vllm`, so that it is locked, installed and started like the real one."""

from pathlib import Path

from rackhand.lab.wheel_format import Wheel

SOURCE = Path(__file__).parent / "standin"
SUMMARY = "Stand-in for vLLM on practice hosts"


def standin_wheel(engine_version: str) -> Wheel:
    """Describe the stand-in for one vLLM version, such as "0.33.0"; its own version is "0.33.0+standin"."""
    sources = sorted([*SOURCE.rglob("*.py"), *SOURCE.rglob("*.txt")])
    return Wheel(
        name="vllm",
        version=f"{engine_version}+standin",
        summary=SUMMARY,
        files={
            f"vllm/{source.relative_to(SOURCE).as_posix()}": source.read_text(encoding="utf-8") for source in sources
        },
        console_scripts={"vllm": "vllm.cli:main"},
    )
