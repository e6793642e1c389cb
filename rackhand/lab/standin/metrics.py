"""The engine's counters in Prometheus' text format, under vLLM's names."""

import json

from .completion import Counters


def render(model: str, counters: Counters) -> str:
    """Write the metrics page of one engine."""
    labels = f'{{engine="0",model_name={json.dumps(model)}}}'
    rows = (
        ("vllm:num_requests_running", "gauge", counters.running),
        ("vllm:num_requests_waiting", "gauge", 0),
        ("vllm:kv_cache_usage_perc", "gauge", min(1.0, counters.running / 256)),
        ("vllm:num_preemptions", "counter", 0),
        ("vllm:prefix_cache_queries", "counter", counters.prompt_tokens),
        ("vllm:prefix_cache_hits", "counter", 0),
        ("vllm:prompt_tokens", "counter", counters.prompt_tokens),
        ("vllm:generation_tokens", "counter", counters.generation_tokens),
    )
    page = "".join(_metric(name, kind, labels, value) for name, kind, value in rows)
    success = f'{labels[:-1]},finished_reason="length"}}'
    return page + _metric("vllm:request_success", "counter", success, counters.successes)


def _metric(name: str, kind: str, labels: str, value: float) -> str:
    series = f"{name}_total" if kind == "counter" else name
    return f"# HELP {series} Of the stand-in engine.\n# TYPE {series} {kind}\n{series}{labels} {float(value)}\n"
