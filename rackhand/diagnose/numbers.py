"""Numbers that more than one rule judges, and how they are written."""

from rackhand.diagnose.metrics import Counts, Histogram
from rackhand.diagnose.observation import Observation, mean

# What people feel: tokens per second of one request, and seconds to its first token.
DECODE_TARGET, DECODE_LOW = 20.0, 10.0
FIRST_TOKEN_TARGET_S, FIRST_TOKEN_LATE_S = 0.5, 2.0
BUSY_TARGET = 80.0
KV_FULL = 0.9
FAILED = ("abort", "error")


def decode_rate(seen: Observation) -> tuple[float, str] | None:
    """Return tokens per second of one request, first token left out, and in words: benchmark, else what was served."""
    if seen.bench is not None and seen.bench.median_tpot_ms:
        rate = 1000 / seen.bench.median_tpot_ms
        whole = f", {seen.bench.output_tok_s:,.0f} in all" if seen.bench.output_tok_s else ""
        return rate, f"{rate:.1f} tokens/s per request{whole} (benchmark of {seen.bench.completed} requests)"
    took = spent_s(seen, "tpot")
    return (1 / took, f"{1 / took:.1f} tokens/s per request") if took else None


def first_token(seen: Observation) -> tuple[float, str] | None:
    """Return the seconds to the first token, and in words: of 95 of 100 served requests, else a benchmark's median."""
    served = latencies(seen)
    late = served.ttft.quantile(0.95) if served and served.ttft else None
    if late is not None:
        return late, f"95 of 100 requests within {late:.2f} s"
    if seen.bench is not None and seen.bench.median_ttft_ms:
        median = seen.bench.median_ttft_ms / 1000
        return median, f"half of {seen.bench.completed} benchmarked requests within {median:.2f} s"
    return None


def latencies(seen: Observation) -> Counts | None:
    return seen.traffic.latencies if seen.traffic else None


def spent_s(seen: Observation, what: str) -> float | None:
    """Return the mean seconds of a request in the `queue`, in `prefill`, until its first token (`ttft`), per `tpot`."""
    times: Histogram | None = getattr(latencies(seen), what, None)
    return times.mean if times is not None else None


def running(seen: Observation) -> float | None:
    return mean(seen.traffic.running) if seen.traffic else None


def waiting(seen: Observation) -> float | None:
    return mean(seen.traffic.waiting) if seen.traffic else None


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


def failed(seen: Observation) -> tuple[float, float] | None:
    """Return how many requests failed or were left by their client, and how many ended at all."""
    ended = seen.traffic.total.finished if seen.traffic else {}
    return (sum(ended.get(reason, 0.0) for reason in FAILED), sum(ended.values())) if ended else None
