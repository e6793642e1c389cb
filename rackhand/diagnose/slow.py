"""Slow generation (R78) as a decision table: what holds a running engine back."""

from collections.abc import Mapping

from rackhand.diagnose import numbers
from rackhand.diagnose.numbers import BUSY_TARGET, KV_FULL, percent
from rackhand.diagnose.observation import Observation
from rackhand.diagnose.rule import Question, Row, Table, Verdict

# Running sequences that come this near to max-num-seqs count as "at the limit".
AT_LIMIT = 0.9
SATURATED = 95.0


def _idle(seen: Observation) -> bool:
    return seen.busy is not None and seen.busy < BUSY_TARGET


def _saturated(seen: Observation) -> bool:
    return seen.busy is not None and seen.busy >= SATURATED


def _at_sequence_limit(seen: Observation) -> bool:
    limit, running = seen.number("max-num-seqs"), numbers.running(seen)
    return limit is not None and running is not None and running >= AT_LIMIT * limit


def _threads_limit(seen: Observation) -> bool:
    running = numbers.running(seen)
    return seen.client_threads is not None and running is not None and running >= AT_LIMIT * seen.client_threads


def _kv_full(seen: Observation) -> bool:
    return (numbers.kv_usage(seen) or 0.0) > KV_FULL


def _room(seen: Observation) -> bool:
    """Tell whether requests wait although the KV cache has room for them."""
    return seen.queued and not _kv_full(seen)


def _queue_text(seen: Observation) -> str:
    parts = [f"GPU {seen.busy:.0f} % busy"] if seen.busy is not None else []
    counts = ((numbers.running(seen), "running"), (numbers.waiting(seen), "waiting"))
    parts += [f"{value:g} {word}" for value, word in counts if value is not None]
    usage = numbers.kv_usage(seen)
    return ", ".join([*parts, f"KV cache {percent(usage)} used"] if usage is not None else parts)


def _limits_text(seen: Observation) -> str:
    limit = seen.number("max-num-seqs")
    return _queue_text(seen) + (f", max-num-seqs {limit:g}" if limit is not None else "")


def _fits(seen: Observation) -> Mapping[str, str]:
    return {} if seen.sequences is None else {"fits": f"{seen.sequences:.1f}"}


def _preempted_text(seen: Observation) -> str:
    return f"{numbers.preemptions(seen):g} preemptions {numbers.span(seen)}, {_queue_text(seen)}"


RATE = Question[tuple[float, str]](
    code="R78", title="slow generation", source="R78, R1",
    look=numbers.decode_rate, needs="a benchmark or a finished request",
    rows=(
        Row(code="not-slow", when=lambda rate: rate[0] >= numbers.DECODE_TARGET, verdict=Verdict.PASS,
            number=lambda rate: rate[1]),
        Row(code="slower-than-target", when=lambda rate: rate[0] >= numbers.DECODE_LOW, verdict=Verdict.WARN,
            number=lambda rate: rate[1]),
        Row(code="slow", when=lambda rate: True, verdict=Verdict.FAIL,
            number=lambda rate: rate[1]),
    ),
)  # fmt: skip

HELD_BACK = Question[Observation](
    code="R78", title="what holds it back", source="R78, C8, C25", every=True, quiet=True,
    look=lambda seen: seen, needs="anything",
    rows=(
        Row(code="slow-attention", verdict=Verdict.WARN,
            when=lambda seen: seen.slow_attention,
            number=lambda seen: f"attention runs on {seen.backend}",
            advice=("remove attention-backend, block-size and kv-cache-dtype from serve_options",)),
        Row(code="eager", verdict=Verdict.WARN,
            when=lambda seen: seen.flag("enforce-eager") is True,
            number=lambda seen: "enforce-eager is set: no CUDA graphs, no compilation",
            advice=("remove enforce-eager from serve_options; it is for debugging",)),
        Row(code="preemption", verdict=Verdict.WARN,
            when=lambda seen: numbers.preemptions(seen) > 0,
            number=_preempted_text, values=_fits,
            advice=("raise serve_gpu_memory_utilization (to 0.95 at most) or give the model more GPUs",
                    "use kv-cache-dtype fp8 where the card has it",
                    "lower max-num-seqs until nothing is preempted: each preemption computes a prompt again",
                    "at full context {fits} sequences fit at once")),
        Row(code="cache-full", verdict=Verdict.WARN,
            when=lambda seen: seen.queued and _kv_full(seen) and not numbers.preemptions(seen),
            number=_queue_text,
            advice=("the KV cache limits how many run at once: raise serve_gpu_memory_utilization, use kv-cache-dtype "
                    "fp8, quantised weights, or more GPUs",)),
        Row(code="sequences-limit", verdict=Verdict.WARN,
            when=lambda seen: _room(seen) and _at_sequence_limit(seen) and not _saturated(seen),
            number=_limits_text,
            advice=("raise max-num-seqs in serve_options: there is room in the KV cache and work in the queue",)),
        Row(code="batch-limit", verdict=Verdict.WARN,
            when=lambda seen: _room(seen) and not _at_sequence_limit(seen) and _idle(seen),
            number=_limits_text,
            advice=("raise max-num-batched-tokens in serve_options: prompts wait while the GPU has time",
                    "raise max-num-seqs, if it is set")),
        Row(code="at-its-limit", verdict=Verdict.WARN,
            when=lambda seen: _saturated(seen) and seen.queued,
            number=_queue_text,
            advice=("the GPU does what it can: serve an FP8 or 4-bit checkpoint, a smaller model, or add instances",)),
        Row(code="client-limit", verdict=Verdict.WARN,
            when=lambda seen: not seen.queued and _idle(seen) and _threads_limit(seen),
            number=lambda seen: f"{_queue_text(seen)}, {seen.client_threads} client connections",
            advice=("raise the client's connections (a grid worker: GRID_MAX_THREADS): each has one request",)),
        Row(code="no-demand", verdict=Verdict.PASS,
            when=lambda seen: numbers.waiting(seen) == 0 and _idle(seen) and not _threads_limit(seen),
            number=_queue_text,
            advice=("nothing waits: more requests at once use the GPU better, no setting of the engine does",)),
    ),
)  # fmt: skip

SLOW: Table = (RATE, HELD_BACK)
