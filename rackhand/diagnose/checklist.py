"""The checklist before production (R61 to R71) as a decision table."""

from rackhand.diagnose import numbers
from rackhand.diagnose.numbers import BUSY_TARGET, DECODE_LOW, DECODE_TARGET, percent
from rackhand.diagnose.observation import Gate, Observation, Unit
from rackhand.diagnose.rule import Question, Row, Table, Verdict
from rackhand.journal import Finding, known_failures

SHARE_LOW, SHARE_HIGH = 0.85, 0.95
# A 99th percentile needs at least as many requests.
REQUESTS = 100
NEAR, FAR = 0.9, 0.25
MEMORY_AND_GPU = frozenset({"gpu-out-of-memory", "host-out-of-memory", "cpu-memory", "gpu-lost", "gpu-error"})


def _share(seen: Observation) -> float | None:
    said = (seen.traffic.cache if seen.traffic else {}).get("gpu_memory_utilization")
    try:
        return float(said) if said else seen.number("gpu-memory-utilization")
    except ValueError:
        return None


def _fixed(seen: Observation) -> float | None:
    return seen.number("kv-cache-memory-bytes")


def _share_text(seen: Observation) -> str:
    share = _share(seen)
    return "vLLM's default share" if share is None else f"{share:g} of the GPU's memory"


def _longest(seen: Observation) -> float | None:
    """Return the 99th percentile of prompt plus output in tokens; None before enough requests ended."""
    total = seen.traffic.total if seen.traffic else None
    if total is None or total.prompt_tokens is None or total.output_tokens is None:
        return None
    prompt, output = total.prompt_tokens.quantile(0.99), total.output_tokens.quantile(0.99)
    enough = total.prompt_tokens.count >= REQUESTS
    return prompt + output if enough and prompt is not None and output is not None else None


def _use(seen: Observation) -> tuple[float, int, bool] | None:
    longest = _longest(seen)
    return None if longest is None or seen.context is None else (longest, seen.context, numbers.scarce(seen))


def _use_text(use: tuple[float, int, bool]) -> str:
    return f"99 of 100 requests use at most {min(use[0], use[1]):,.0f} of {use[1]:,} tokens"


def _contexts(seen: Observation) -> tuple[int, int | None, int | None] | None:
    """Return the served context, the planned one and the client's."""
    if seen.served_context is None or (seen.planned_context is None and seen.client_context is None):
        return None
    return seen.served_context, seen.planned_context, seen.client_context


def _contexts_text(found: tuple[int, int | None, int | None]) -> str:
    served, planned, client = found
    parts = [f"served {served:,}", f"planned {planned:,}" if planned else "", f"client {client:,}" if client else ""]
    return ", ".join(part for part in parts if part) + " tokens"


def _incidents(seen: Observation) -> tuple[Finding, ...] | None:
    """Return the lines of journal and kernel log that tell of memory running out or a failing GPU."""
    if not seen.journal and not seen.kernel:
        return None
    return tuple(found for found in known_failures([*seen.journal, *seen.kernel]) if found.code in MEMORY_AND_GPU)


def _unit_text(unit: Unit) -> str:
    enabled = "enabled" if unit.enabled else "not enabled"
    return f"{unit.active}, {enabled}, {unit.restarts} restart{'' if unit.restarts == 1 else 's'}"


QUANTISED = Question[Observation](
    code="R61", title="quantised model", source="R61, R26, C13",
    look=lambda seen: seen if seen.quantization is not None else None,
    needs="the journal's line with the engine's configuration",
    rows=(
        Row(code="quantised", when=lambda seen: bool(seen.quantization), verdict=Verdict.PASS,
            number=lambda seen: str(seen.quantization)),
        Row(code="memory-short", when=numbers.scarce, verdict=Verdict.WARN,
            number=lambda seen: f"not quantised, KV cache {percent(numbers.kv_usage(seen) or 0)} in use",
            advice=("serve an FP8 or 4-bit checkpoint of the model: what the weights give up, the KV cache gets",)),
        Row(code="memory-enough", when=lambda seen: True, verdict=Verdict.PASS,
            number=lambda seen: "not quantised, memory is enough"),
    ),
)  # fmt: skip
PREFIX_CACHING = Question[Observation](
    code="R62", title="prefix caching", source="R62, R18, R6, C6, C9",
    look=lambda seen: seen if seen.prefix_caching is not None or seen.options_known else None,
    needs="settings, journal or metrics",
    rows=(
        Row(code="off", when=lambda seen: seen.prefix_caching is False, verdict=Verdict.WARN, number=lambda seen: "off",
            advice=("remove no-enable-prefix-caching: cached blocks are given up when memory is needed",)),
        Row(code="hit-rate", when=lambda seen: numbers.hit_rate(seen) is not None, verdict=Verdict.PASS,
            number=lambda seen: f"on, {percent(numbers.hit_rate(seen) or 0)} of prompt tokens were cached"),
        Row(code="on", when=lambda seen: True, verdict=Verdict.PASS, number=lambda seen: "on, nothing asked yet"),
    ),
)  # fmt: skip
MEMORY_SHARE = Question[Observation](
    code="R63", title="GPU memory share", source="R63, R10, C1, C2",
    look=lambda seen: seen if _share(seen) is not None or seen.options_known else None,
    needs="settings, journal or metrics",
    rows=(
        Row(code="fixed-cache", when=lambda seen: _fixed(seen) is not None, verdict=Verdict.NOT_APPLICABLE,
            number=lambda seen: f"the KV cache is fixed at {(_fixed(seen) or 0) / 2**30:.1f} GiB"),
        Row(code="share-low", when=lambda seen: (_share(seen) or SHARE_LOW) < SHARE_LOW, verdict=Verdict.WARN,
            number=_share_text,
            advice=("raise serve_gpu_memory_utilization to 0.90 or more unless instances share this GPU: what vLLM "
                    "may not take is missing in the KV cache",)),
        Row(code="share-high", when=lambda seen: (_share(seen) or SHARE_LOW) > SHARE_HIGH, verdict=Verdict.WARN,
            number=_share_text,
            advice=("lower serve_gpu_memory_utilization to 0.95: working memory beyond the profile has no room left",)),
        Row(code="share", when=lambda seen: True, verdict=Verdict.PASS, number=_share_text),
    ),
)  # fmt: skip
CONTEXT_USE = Question[tuple[float, int, bool]](
    code="R64", title="context fits the use", source="R64, R20",
    look=_use, needs=f"the context and {REQUESTS} finished requests",
    rows=(
        Row(code="context-tight", when=lambda use: use[0] > NEAR * use[1], verdict=Verdict.WARN, number=_use_text,
            advice=("raise serve_max_model_len: requests come near the limit, and longer ones are refused",)),
        Row(code="context-unused", when=lambda use: use[0] < FAR * use[1] and use[2], verdict=Verdict.WARN,
            number=_use_text,
            advice=("lower serve_max_model_len: memory for the KV cache is short, and nobody uses this length",)),
        Row(code="context", when=lambda use: True, verdict=Verdict.PASS, number=_use_text),
    ),
)  # fmt: skip
ATTENTION = Question[Observation](
    code="R65", title="attention kernel", source="R65, R12, C10",
    look=lambda seen: seen if seen.backend else None, needs="a journal line that names one",
    rows=(
        Row(code="slow-attention", when=lambda seen: seen.slow_attention, verdict=Verdict.WARN,
            number=lambda seen: str(seen.backend),
            advice=("remove attention-backend, block-size and kv-cache-dtype from serve_options: one may exclude "
                    "the faster kernels", "look in the journal for the reason that vLLM names per kernel")),
        Row(code="attention", when=lambda seen: True, verdict=Verdict.PASS, number=lambda seen: str(seen.backend)),
    ),
)  # fmt: skip
CONTEXT_AGREES = Question[tuple[int, int | None, int | None]](
    code="R66", title="context as planned", source="R66, R21",
    look=_contexts, needs="the served context, and the planned or the client's",
    rows=(
        Row(code="context-differs", when=lambda found: found[1] not in (None, found[0]), verdict=Verdict.FAIL,
            number=_contexts_text, advice=("run the deploy again: the engine serves other settings than its release",)),
        Row(code="client-differs", when=lambda found: found[2] not in (None, found[0]), verdict=Verdict.FAIL,
            number=_contexts_text,
            advice=("give the client the served context (a grid worker: GRID_MAX_CONTEXT_LENGTH)",)),
        Row(code="context-agrees", when=lambda found: True, verdict=Verdict.PASS, number=_contexts_text),
    ),
)  # fmt: skip
GATE = Question[Gate](
    code="R67", title="health checks", source="R67, R58, R59, R60, C30",
    look=lambda seen: seen.gate, needs="a host to ask",
    rows=(
        Row(code="gate-failed", when=lambda gate: bool(gate.failure), verdict=Verdict.FAIL,
            number=lambda gate: f"{gate.failure}: {gate.what}",
            advice=("look the code up in docs/reference/errors.md",)),
        Row(code="gate-passed", when=lambda gate: True, verdict=Verdict.PASS,
            number=lambda gate: "health, version, model, context, 5 of 5 tokens"),
    ),
)  # fmt: skip
SPEED = Question[tuple[float, str]](
    code="R68", title="more than 20 tokens/s", source="R68, R1",
    look=numbers.decode_rate, needs="a benchmark or a finished request",
    rows=(
        Row(code="decode", when=lambda rate: rate[0] > DECODE_TARGET, verdict=Verdict.PASS,
            number=lambda rate: rate[1]),
        Row(code="decode-below-target", when=lambda rate: rate[0] >= DECODE_LOW, verdict=Verdict.WARN,
            number=lambda rate: rate[1],
            advice=("rackhand diagnose names the reason",)),
        Row(code="decode-slow", when=lambda rate: True, verdict=Verdict.FAIL, number=lambda rate: rate[1],
            advice=("rackhand diagnose names the reason",)),
    ),
)  # fmt: skip
UTILISATION = Question[float](
    code="R69", title="GPU busy under load", source="R69, R4, C8",
    look=lambda seen: seen.busy if seen.loaded else None,
    needs="GPU samples while requests wait or a benchmark runs",
    rows=(
        Row(code="busy", when=lambda busy: busy >= BUSY_TARGET, verdict=Verdict.PASS,
            number=lambda busy: f"{busy:.0f} %"),
        Row(code="starved", when=lambda busy: True, verdict=Verdict.WARN, number=lambda busy: f"{busy:.0f} %",
            advice=("rackhand diagnose names the reason",)),
    ),
)  # fmt: skip
SERVICE = Question[Unit](
    code="R70", title="service", source="R70, R50, R52",
    look=lambda seen: seen.unit, needs="a host to ask, or --unit",
    rows=(
        Row(code="service-down", when=lambda unit: unit.active != "active", verdict=Verdict.FAIL, number=_unit_text,
            advice=("run the deploy again; its gate says why the engine does not start",)),
        Row(code="service-not-enabled", when=lambda unit: not unit.enabled, verdict=Verdict.FAIL, number=_unit_text,
            advice=("run the deploy again: after a reboot this engine would not start",)),
        Row(code="service-restarted", when=lambda unit: unit.restarts > 0, verdict=Verdict.WARN, number=_unit_text,
            advice=("read in the journal why it ended: journalctl -u 'vllm@*'",)),
        Row(code="service", when=lambda unit: True, verdict=Verdict.PASS, number=_unit_text),
    ),
)  # fmt: skip
LOGS = Question[tuple[Finding, ...]](
    code="R71", title="logs without OOM", source="R71",
    look=_incidents, needs="a journal",
    rows=(
        Row(code="incident", when=bool, verdict=Verdict.FAIL,
            number=lambda found: f"{len(found)} line{'' if len(found) == 1 else 's'}, the last: {found[-1].line}",
            advice=("{remedy}",), values=lambda found: {"remedy": found[-1].remedy.rstrip(".")}),
        Row(code="no-incident", when=lambda found: True, verdict=Verdict.PASS, number=lambda found: "0 lines"),
    ),
)  # fmt: skip

CHECKLIST: Table = (
    QUANTISED, PREFIX_CACHING, MEMORY_SHARE, CONTEXT_USE, ATTENTION, CONTEXT_AGREES, GATE, SPEED, UTILISATION,
    SERVICE, LOGS,
)  # fmt: skip
