"""Out of memory (R79): four failures, told apart by vLLM's own message, each with its own ladder.

Prefix caching is in none of them: cached blocks are given up when memory is needed, so turning it off frees nothing.
"""

from collections.abc import Mapping

from rackhand.catalog.signals import Told, told
from rackhand.diagnose.observation import Observation
from rackhand.diagnose.rule import Question, Row, Table, Verdict
from rackhand.journal import Finding, decisive_line, known_failures

TAKEN, NO_BLOCKS, TOO_LONG, RUNTIME = "gpu-memory-taken", "no-cache-memory", "context-too-long", "gpu-out-of-memory"
MEMORY = (TAKEN, NO_BLOCKS, TOO_LONG, RUNTIME)
SERVING = "Application startup complete"
QUANTISED = "serve an FP8 or 4-bit checkpoint of the model"
MORE_GPUS = "give the model more GPUs (serve_tensor_parallel_size)"
KV_FP8 = "use kv-cache-dtype fp8 where the card has it: it halves what a token takes"

Failure = tuple[Finding, Observation]


def _failure(seen: Observation) -> Failure | None:
    """Return the line that decided a failed start, else the newest memory failure of a running engine."""
    first = decisive_line(seen.journal)
    if first is not None and first.code in MEMORY:
        return first, seen
    found = [finding for finding in known_failures(seen.journal) if finding.code in MEMORY]
    return (found[-1], seen) if found else None


def _journal(seen: Observation) -> tuple[Failure | None] | None:
    return (_failure(seen),) if seen.journal else None


def _code(what: tuple[Failure | None], code: str) -> bool:
    return what[0] is not None and what[0][0].code == code


def _cause(what: tuple[Failure | None]) -> str:
    return what[0][0].cause.rstrip(".") if what[0] is not None else ""


def _values(what: tuple[Failure | None]) -> Mapping[str, str]:
    """Return the numbers of the line, and those that vLLM suggested in the journal around it, in GiB."""
    if what[0] is None:
        return {}
    finding, seen = what[0]
    suggested = {
        "within_share": told(Told.KV_WITHIN_SHARE, seen.journal),
        "whole_card": told(Told.KV_WHOLE_CARD, seen.journal),
    }
    found = {name: f"{value} ({int(value) / 2**30:.2f} GiB)" for name, value in suggested.items() if value}
    lower = _lower_share(finding)
    return {**finding.values, **found, **({"fits": lower} if lower else {})}


def _lower_share(finding: Finding) -> str:
    """Return the largest share of the card, in steps of 0.01, that fits the free memory which vLLM named."""
    try:
        free, total = float(finding.values["free"]), float(finding.values["total"])
    except (KeyError, ValueError):
        return ""
    share = int(free / total * 100) / 100 if total else 0.0
    return f"{share:.2f}" if share >= 0.1 else ""


def _while_serving(what: tuple[Failure | None]) -> bool:
    """Tell whether the GPU ran full in operation, not while the engine started."""
    if what[0] is None:
        return False
    finding, seen = what[0]
    lines = [number for number, line in enumerate(seen.journal) if finding.line.rstrip("…") in line]
    ready = [number for number, line in enumerate(seen.journal) if SERVING in line]
    return bool(lines and ready and lines[-1] > ready[0])


OUT_OF_MEMORY = Question[tuple[Failure | None]](
    code="R79", title="out of memory", source="R79, C6, C26",
    look=_journal, needs="a journal",
    rows=(
        Row(code="memory-taken-at-start", when=lambda what: _code(what, TAKEN), verdict=Verdict.FAIL,
            number=_cause, values=_values,
            advice=("find who holds the memory and stop it (nvidia-smi; look for an orphaned VLLM::EngineCore)",
                    "start instances that share a GPU one after the other",
                    "where the other process must stay, set serve_gpu_memory_utilization to {fits}: so much is free")),
        Row(code="no-cache-blocks", when=lambda what: _code(what, NO_BLOCKS), verdict=Verdict.FAIL,
            number=_cause, values=_values,
            advice=("raise serve_gpu_memory_utilization (to 0.95 at most): the KV cache gets what is left of it",
                    QUANTISED, MORE_GPUS, "lower max-num-batched-tokens: it sizes the working memory")),
        Row(code="cache-below-one-sequence", when=lambda what: _code(what, TOO_LONG), verdict=Verdict.FAIL,
            number=_cause, values=_values,
            advice=("set serve_max_model_len to {length} or less: vLLM's estimate for {available}; it needs {needed}",
                    "raise serve_gpu_memory_utilization (to 0.95 at most)", KV_FP8, QUANTISED, MORE_GPUS)),
        Row(code="memory-full-while-serving", when=lambda what: _code(what, RUNTIME) and _while_serving(what),
            verdict=Verdict.FAIL, number=_cause, values=_values,
            advice=("set kv-cache-memory-bytes to {within_share}, which vLLM suggested at its start",
                    "lower serve_gpu_memory_utilization by 0.03: the peak was above what vLLM measured",
                    "lower max-num-batched-tokens or max-num-seqs: they size the working memory")),
        Row(code="memory-full-at-start", when=lambda what: _code(what, RUNTIME), verdict=Verdict.FAIL,
            number=_cause, values=_values,
            advice=("lower serve_gpu_memory_utilization by 0.03: CUDA graphs and libraries need what the KV cache took",
                    "lower max-cudagraph-capture-size, or max-num-batched-tokens",
                    QUANTISED)),
        Row(code="memory-suffices", when=lambda what: True, verdict=Verdict.PASS,
            number=lambda what: "no line of the journal tells of it"),
    ),
)  # fmt: skip

MEMORY_TABLE: Table = (OUT_OF_MEMORY,)
