"""Numbers that more than one rule judges, and how they are written."""

from rackhand.diagnose.metrics import Counts, Histogram
from rackhand.diagnose.observation import Observation, mean

# The seed's targets: tokens per second of one request, and seconds to its first token.
DECODE_TARGET, DECODE_LOW = 20.0, 10.0
FIRST_TOKEN_TARGET_S, FIRST_TOKEN_LATE_S = 0.5, 2.0
BUSY_TARGET = 80.0
KV_FULL = 0.9


def decode_rate(seen: Observation) -> float | None:
    """Return tokens per second of one request after its first token: of the benchmark, else of what was served."""
    if seen.bench is not None:
        return 1000 / seen.bench.median_tpot_ms if seen.bench.median_tpot_ms else None
    took = _mean(seen.traffic.latencies.tpot) if seen.traffic else None
    return 1 / took if took else None


def first_token_s(seen: Observation) -> float | None:
    """Return the seconds within which 95 of 100 requests had their first token."""
    served = latencies(seen)
    return served.ttft.quantile(0.95) if served and served.ttft else None


def latencies(seen: Observation) -> Counts | None:
    return seen.traffic.latencies if seen.traffic else None


def spent_s(seen: Observation, what: str) -> float | None:
    """Return the mean seconds that a request spent in the `queue`, in `prefill`, or until its first token (`ttft`)."""
    served = latencies(seen)
    return _mean(getattr(served, what)) if served else None


def running(seen: Observation) -> float | None:
    return mean(seen.traffic.running) if seen.traffic else None


def waiting(seen: Observation) -> float | None:
    return mean(seen.traffic.waiting) if seen.traffic else None


def queued(seen: Observation) -> bool:
    """Tell whether requests waited at every look."""
    return seen.traffic is not None and bool(seen.traffic.waiting) and min(seen.traffic.waiting) > 0


def kv_usage(seen: Observation) -> float | None:
    """Return the highest share of the KV cache that was in use."""
    return max(seen.traffic.kv_usage, default=None) if seen.traffic else None


def preemptions(seen: Observation) -> float:
    """Return how many sequences were thrown out of the KV cache, lately where there were two looks."""
    return (seen.traffic.recent.preemptions or 0.0) if seen.traffic else 0.0


def scarce(seen: Observation) -> bool:
    """Tell whether memory for the KV cache is short."""
    return preemptions(seen) > 0 or (kv_usage(seen) or 0.0) > KV_FULL


def hit_rate(seen: Observation) -> float | None:
    """Return the share of prompt tokens that came out of the prefix cache since the engine's start."""
    total = seen.traffic.total if seen.traffic else None
    if total is None or not total.prefix_queries or total.prefix_hits is None:
        return None
    return total.prefix_hits / total.prefix_queries


def percent(share: float) -> str:
    return f"{share * 100:.0f} %"


def span(seen: Observation) -> str:
    """Say which time the counters are about."""
    seconds = seen.traffic.seconds if seen.traffic else None
    return f"in {seconds:.0f} s" if seconds else "since the start"


def _mean(times: Histogram | None) -> float | None:
    return times.mean if times is not None else None
