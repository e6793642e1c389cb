"""A late first token (R80): where the time goes, from the histograms of queue and prefill."""

from rackhand.catalog.signals import Told, told
from rackhand.diagnose import numbers
from rackhand.diagnose.numbers import FIRST_TOKEN_LATE_S, FIRST_TOKEN_TARGET_S
from rackhand.diagnose.observation import Observation
from rackhand.diagnose.rule import Question, Row, Table, Verdict

# The part of the time to the first token that makes a cause.
MOST = 0.5
OFFLOADS = ("cpu-offload-gb", "offload-group-size")
COLD = 0.1


def _late(seen: Observation) -> bool:
    found = numbers.first_token(seen)
    return found is not None and found[0] > FIRST_TOKEN_TARGET_S


def _most(seen: Observation, what: str) -> bool:
    took, part = numbers.spent_s(seen, "ttft"), numbers.spent_s(seen, what)
    return _late(seen) and bool(took) and part is not None and part > MOST * (took or 0.0)


def _parts(seen: Observation) -> str:
    spent = ((numbers.spent_s(seen, "queue"), "in the queue"), (numbers.spent_s(seen, "prefill"), "in prefill"))
    parts = [f"{value:.2f} s {where}" for value, where in spent if value is not None]
    return f"{', '.join(parts)}, of {numbers.spent_s(seen, 'ttft') or 0:.2f} s on average"


def _offloaded(seen: Observation) -> str:
    """Name what keeps weights in the host's memory; empty when nothing does."""
    found = [f"{name} {seen.options[name]}" for name in OFFLOADS if (seen.number(name) or 0) > 0]
    offloader = told(Told.OFFLOADER, seen.journal)
    return ", ".join(found) or (offloader or "")


def _batch_text(seen: Observation) -> str:
    batch = seen.number("max-num-batched-tokens")
    return _parts(seen) + (f", max-num-batched-tokens {batch:g}" if batch is not None else "")


def _cold(seen: Observation) -> bool:
    rate = numbers.hit_rate(seen)
    return rate is not None and rate < COLD


def _rejected(seen: Observation) -> float:
    return (seen.traffic.recent.rejections or 0.0) if seen.traffic else 0.0


FIRST_TOKEN = Question[tuple[float, str]](
    code="R80", title="late first token", source="R80, R2",
    look=numbers.first_token, needs="a benchmark or a finished request",
    rows=(
        Row(code="not-late", when=lambda late: late[0] <= FIRST_TOKEN_TARGET_S, verdict=Verdict.PASS,
            number=lambda late: late[1]),
        Row(code="later-than-target", when=lambda late: late[0] <= FIRST_TOKEN_LATE_S, verdict=Verdict.WARN,
            number=lambda late: late[1]),
        Row(code="late", when=lambda late: True, verdict=Verdict.FAIL, number=lambda late: late[1]),
    ),
)  # fmt: skip

WHERE_THE_TIME_GOES = Question[Observation](
    code="R80", title="where the time goes", source="R80, C27", every=True, quiet=True,
    look=lambda seen: seen, needs="anything",
    rows=(
        Row(code="queue", verdict=Verdict.WARN,
            when=lambda seen: _most(seen, "queue"), number=_parts,
            advice=("what `slow generation` names first: a queue is the symptom of another limit",
                    "bound the queue with max-num-queued-tokens or max-num-queued-reqs (vLLM 0.29 and newer; what is "
                    "beyond gets 503), or with maxconn in the load balancer, which queues instead",
                    "add instances")),
        Row(code="prefill", verdict=Verdict.WARN,
            when=lambda seen: _most(seen, "prefill"), number=_batch_text,
            advice=("raise max-num-batched-tokens: prompts take fewer steps, tokens of others come a little later",
                    "more GPUs per instance, an FP8 checkpoint, or a smaller model: prefill is bound by computing")),
        Row(code="cold-prefix-cache", verdict=Verdict.WARN,
            when=lambda seen: _most(seen, "prefill") and _cold(seen),
            number=lambda seen: f"{numbers.percent(numbers.hit_rate(seen) or 0)} of prompt tokens were cached",
            advice=("where prompts begin alike, put what changes at their end; send a session to one instance",)),
        Row(code="offload", verdict=Verdict.FAIL,
            when=lambda seen: bool(_offloaded(seen)),
            number=lambda seen: f"weights in the host's memory: {_offloaded(seen)}",
            advice=("remove the offload options; serve a quantised checkpoint or take more GPUs instead",)),
        Row(code="rejections", verdict=Verdict.WARN,
            when=lambda seen: _rejected(seen) > 0,
            number=lambda seen: f"{_rejected(seen):g} requests were answered 503 {numbers.span(seen)}",
            advice=("raise max-num-queued-tokens or max-num-queued-reqs, or add instances",)),
    ),
)  # fmt: skip

LATE_FIRST_TOKEN: Table = (FIRST_TOKEN, WHERE_THE_TIME_GOES)
