"""Choose one instance's engine settings: the user's options, the preset's, then context and sequences by memory."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

from rackhand.catalog import engine
from rackhand.catalog.serving import serving_book
from rackhand.fitting.forecast import forecast
from rackhand.fitting.terms import Forecast
from rackhand.plan import Setting
from rackhand.serving import options, presets, rules
from rackhand.serving.resolve import serving_of
from rackhand.serving.terms import Case, Choice

THOUSAND = 1024
BLOCK = 16
# Steps of max-num-seqs: coarse, so that a few MiB more or less do not restart an engine.
LADDER = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768)
USER, FIT = "user", "fit"


@lru_cache(maxsize=4096)
def choose(case: Case) -> Choice:
    """Return settings, forecast and words of one instance; the forecast holds every reason against it."""
    applied = presets.apply(case)
    settings = (*_share(case), *_given(case), *applied.settings)
    predicted, context = _context(case, settings)
    settings = (*settings, *_length(case, context))
    settings = (*settings, *_sequences(case, settings, predicted))
    values = _values(settings)
    serving = serving_of(case, values, context)
    predicted = forecast(case.spec, case.device, serving, case.measured)
    reasons = (*rules.problems(case, values, predicted.context), *predicted.reasons)
    return Choice(
        settings=settings,
        serving=serving,
        forecast=replace(predicted, fits=not reasons, reasons=reasons),
        left_out=applied.left_out,
        warnings=tuple(rules.warnings(case)),
    )


def _values(settings: tuple[Setting, ...]) -> dict[str, Any]:
    return {setting.name: setting.value for setting in settings}


def _share(case: Case) -> Iterator[Setting]:
    """Yield the user's share of a GPU that is not shared; of a shared one the layout says it."""
    wished = case.ask.gpu_memory_utilization
    if wished is not None and wished != engine(case.ask.version).gpu_memory_utilization and case.ranks.share is None:
        yield Setting(name="gpu-memory-utilization", value=wished, reason="serve_gpu_memory_utilization", origin=USER)


def _given(case: Case) -> Iterator[Setting]:
    """Yield the user's options, but for a prefix cache that is switched on: it is on."""
    for name, value in case.ask.options.items():
        if name == "enable-prefix-caching" and options.flag(case.ask.options, name):
            continue
        yield Setting(name=name, value=value, reason="serve_options", origin=USER)


def _context(case: Case, settings: tuple[Setting, ...]) -> tuple[Forecast, int | None]:
    """Return a first forecast, and the context where it is not the model's own."""
    wished = case.ask.max_model_len
    asked = wished if isinstance(wished, int) else None
    values = _values(settings)
    predicted = _forecast(case, values, asked)
    if not case.ask.fits_context or predicted.max_context >= case.spec.max_context:
        return predicted, None if asked == case.spec.max_context else asked
    longest = _rounded(predicted.max_context)
    if longest < BLOCK:
        return predicted, None
    return _forecast(case, values, longest), longest


def _forecast(case: Case, values: Mapping[str, Any], context: int | None) -> Forecast:
    return forecast(case.spec, case.device, serving_of(case, values, context), case.measured)


def _rounded(tokens: int) -> int:
    return tokens // THOUSAND * THOUSAND if tokens >= THOUSAND else tokens // BLOCK * BLOCK


def _length(case: Case, context: int | None) -> Iterator[Setting]:
    if context is None:
        return
    wished = isinstance(case.ask.max_model_len, int)
    reason = (
        "serve_max_model_len" if wished else f"the longest that fits; the model knows {case.spec.max_context:,} tokens"
    )
    yield Setting(name="max-model-len", value=context, reason=reason, origin=USER if wished else FIT)


def _sequences(case: Case, settings: tuple[Setting, ...], predicted: Forecast) -> Iterator[Setting]:
    """Limit the sequences to what the cache holds at a typical length: more would be preempted and computed again."""
    values = _values(settings)
    if not predicted.fits or options.given(values, "max-num-seqs"):
        return
    typical = min(serving_book().typical.tokens, predicted.context)
    room = int(predicted.sequences * predicted.context // typical)
    default = serving_of(case, values, predicted.context).max_num_seqs
    if room >= default:
        return
    cap = max(step for step in LADDER if step <= max(1, room))
    reason = (
        f"the cache holds {room:,} sequences of {typical:,} tokens; more of vLLM's {default:,} would be preempted "
        "and computed again"
    )
    yield Setting(name="max-num-seqs", value=cap, reason=reason, origin=FIT)
