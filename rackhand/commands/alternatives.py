"""Questions near one that was refused, each tried: only what has a plan is offered."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from rackhand.commands import paper
from rackhand.commands.answer import Alternative, Answer
from rackhand.commands.answering import Posed, attempt
from rackhand.hardware import describe

COUNTS = (1, 2, 4, 8)
# Cards that can be had today, the smallest first; the first that carry the model are offered.
CARDS = ("L4", "RTX-4090", "L40S", "A100-PCIe-80GB", "RTX-PRO-6000", "H100-SXM-80GB", "H200-SXM", "B200", "B300-SXM6")
MOST_CARDS = 3
# A context shorter than this is no offer to somebody who asked for more.
USABLE_TOKENS = 1024


def alternatives(posed: Posed) -> tuple[Alternative, ...]:
    """Return what would work: a shorter context, an fp8 cache, fp8 weights, more of the same cards, other cards."""
    return tuple(
        _offer(what, arguments, answer)
        for what, arguments, other in (*_wishes(posed), *_sets(posed))
        if (answer := attempt(other)).fits
    )


def _offer(what: str, arguments: tuple[str, ...], answer: Answer) -> Alternative:
    forecast = answer.forecast
    return Alternative(
        what=what,
        arguments=arguments,
        instances=len(answer.instances),
        kv_tokens=forecast.kv_tokens if forecast else 0,
        max_context=forecast.max_context if forecast else 0,
    )


Try = tuple[str, tuple[str, ...], Posed]


def _wishes(posed: Posed) -> Iterator[Try]:
    """Yield the same GPUs with less asked of them, the smallest loss first."""
    given = posed.settings.serve_options
    if posed.settings.serve_max_model_len != "auto" and (context := _shorter(posed)):
        yield "a shorter context", ("--context", str(context)), _with(posed, serve_max_model_len=context)
    if "kv-cache-dtype" not in given:
        options = {**given, "kv-cache-dtype": "fp8"}
        yield "an fp8 KV cache", ("--set", "kv_cache_dtype=fp8"), _with(posed, serve_options=options)
    if "quantization" not in given and posed.spec.quantization is None:
        options = {**given, "quantization": "fp8"}
        yield "fp8 weights", ("--set", "quantization=fp8"), _with(posed, serve_options=options)


def _shorter(posed: Posed) -> int:
    """Return a round context that the nearest try has room for, 0 where nobody would want it."""
    forecast = attempt(posed).forecast
    longest = forecast.max_context if forecast else 0
    return longest // USABLE_TOKENS * USABLE_TOKENS


def _with(posed: Posed, **changes: Any) -> Posed:
    return replace(posed, settings=posed.settings.model_copy(update=changes))


def _sets(posed: Posed) -> Iterator[Try]:
    """Yield the smallest set of the same cards that carries the model, then of others."""
    own = posed.gpus[0].card
    first = _smallest(posed, own.replace(" ", "-"))
    if first is not None:
        yield first
    others = (found for card in CARDS if paper.gpus(card)[0].card != own and (found := _smallest(posed, card)))
    yield from (found for found, _ in zip(others, range(MOST_CARDS), strict=False))


def _smallest(posed: Posed, card: str) -> Try | None:
    for count in COUNTS:
        text = f"{count}x{card}"
        gpus = paper.gpus(text)
        other = replace(_with(posed, serve_instances="auto"), gpus=gpus)
        if attempt(other).fits:
            return describe(gpu.card for gpu in gpus), ("--gpu", text), other
    return None
