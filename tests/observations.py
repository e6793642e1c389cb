"""Engines on paper: observations as rules get them, each number settable by itself."""

from pathlib import Path
from typing import Any

from rackhand.diagnose.metrics import Counts, Histogram, Traffic
from rackhand.diagnose.observation import Bench, Gate, Observation, Unit
from rackhand.fitting.terms import Forecast

FIXTURES = Path(__file__).parent / "fixtures"
CONFIGURED = (
    "INFO 11-24 02:44:30 [core.py:133] Initializing a V1 LLM engine (v0.32.0) with config: model='/m', "
    "quantization={}, quantization_config=None, enforce_eager=False, enable_prefix_caching=True"
)
UP = Unit(active="active", enabled=True, restarts=0)


def around(value: float, count: float = 200) -> Histogram:
    """Return observations that all lie at one value."""
    bounds = ((value * 0.999, 0.0), (value, count), (float("inf"), count))
    return Histogram(buckets=bounds, total=value * count)


def counts(**given: Any) -> Counts:
    """Return counts; histograms may be given as the one value that was observed 200 times."""
    spans = ("ttft", "tpot", "queue", "prefill", "prompt_tokens", "output_tokens")
    return Counts(
        **{
            name: around(value) if name in spans and isinstance(value, float) else value
            for name, value in given.items()
        }
    )


def traffic(
    running: float = 0, waiting: float = 0, kv_usage: float = 0.1, cache: dict[str, str] | None = None, **given: Any
) -> Traffic:
    total = counts(**given)
    looks = {"running": (running,) * 3, "waiting": (waiting,) * 3, "kv_usage": (kv_usage,) * 3}
    return Traffic(total=total, recent=total, seconds=5.0, cache=cache or {}, **looks)


def seen(**given: Any) -> Observation:
    return Observation(where="gpu-1 llama-0", **given)


def configured(quantization: str) -> tuple[str, ...]:
    return (CONFIGURED.format(quantization),)


def journal(name: str) -> tuple[str, ...]:
    """Return the journal of a failed start."""
    return tuple((FIXTURES / "journal" / f"{name}.txt").read_text().splitlines())


def benched(tpot_ms: float) -> Bench:
    return Bench(completed=100, median_tpot_ms=tpot_ms, median_ttft_ms=100.0, output_tok_s=2000.0)


def forecast(sequences: float) -> Forecast:
    return Forecast(
        fits=True, context=4096, allowed_mib=70_000, terms=(), kv_tokens=0, max_context=4096, sequences=sequences
    )


__all__ = [
    "FIXTURES",
    "UP",
    "Gate",
    "Unit",
    "benched",
    "configured",
    "counts",
    "forecast",
    "journal",
    "seen",
    "traffic",
]
