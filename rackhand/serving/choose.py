"""Choose one instance's engine settings: the user's options, the preset's, then context and sequences by memory."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

from rackhand.catalog.serving import serving_book
from rackhand.fitting.forecast import forecast, graphs_beside
from rackhand.fitting.known import ALLOWED_PERCENT, Basis, kept, measured_for
from rackhand.fitting.terms import Forecast, Serving
from rackhand.plan import Setting
from rackhand.serving import options, presets, rules
from rackhand.serving.resolve import serving_of
from rackhand.serving.terms import Case, Choice

THOUSAND = 1024
BLOCK = 16
# Steps of max-num-seqs: coarse, so that a few MiB more or less do not restart an engine.
LADDER = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768)
USER, FIT = "user", "fit"
LENGTH, SHARE = "max-model-len", "gpu-memory-utilization"


@lru_cache(maxsize=4096)
def choose(case: Case) -> Choice:
    """Return settings, forecast and words of one instance; the forecast holds every reason against it.

    What the running release chose to fit the memory stays while it fits: a report that differs a little from its
    forecast is no reason to restart an engine.
    """
    applied = presets.apply(case)
    settings = (*_share(case), *_given(case), *applied.settings)
    decided = _decided(case, settings)
    fresh = _fresh(case, applied, settings, decided)
    before = kept(case.known, case.device, decided)
    if not before or fresh.basis.fit in before:
        return fresh
    choice = _choice(case, applied, _as_before(case, settings, dict(before[0])), decided)
    return choice if choice.forecast.fits else fresh


def _fresh(case: Case, applied: presets.Applied, settings: tuple[Setting, ...], decided: str) -> Choice:
    predicted, context = _context(case, settings)
    settings = (*settings, *_length(case, context))
    return _choice(case, applied, (*settings, *_sequences(case, settings, predicted)), decided)


def _by_memory(setting: Setting) -> bool:
    """Tell whether a setting follows from the memory: chosen to fit it, or a preset's larger share of an idle card."""
    return setting.origin == FIT or (setting.name == SHARE and setting.origin == "preset")


def _choice(case: Case, applied: presets.Applied, settings: tuple[Setting, ...], decided: str) -> Choice:
    values = _values(settings)
    serving = serving_of(case, values, values.get("max-model-len"))
    predicted = _predicted(case, serving)
    reasons = (*rules.problems(case, values, predicted.context), *predicted.reasons)
    fit = tuple(sorted((setting.name, setting.value) for setting in settings if _by_memory(setting)))
    return Choice(
        settings=settings,
        basis=Basis(device=case.device, serving=serving, decided=decided, fit=fit),
        forecast=replace(predicted, fits=not reasons, reasons=reasons),
        left_out=applied.left_out,
        warnings=(*rules.warnings(case), *_tight(case, serving, predicted)),
    )


def _decided(case: Case, settings: tuple[Setting, ...]) -> str:
    """Digest all that decides about an instance but its memory."""
    card = (case.device.card, case.device.capability)
    ranks = (case.ranks.tensor, case.ranks.pipeline, case.ranks.share)
    asked = (case.ask.version, str(case.ask.preset), case.ask.max_model_len, ranks)
    emitted = sorted((setting.name, repr(setting.value)) for setting in settings if not _by_memory(setting))
    return hashlib.sha256(repr((card, asked, emitted)).encode()).hexdigest()[:12]


def _as_before(case: Case, settings: tuple[Setting, ...], before: Mapping[str, int | float]) -> tuple[Setting, ...]:
    asked = case.ask.max_model_len
    wished = asked if isinstance(asked, int) else None
    length = tuple(_length(case, int(before[LENGTH]) if LENGTH in before else wished))
    rest = (
        Setting(name=name, value=value, reason="as in the running release, where it fits", origin=FIT)
        for name, value in before.items()
        if name != LENGTH
    )
    return (*(setting for setting in settings if not _by_memory(setting)), *length, *rest)


def _tight(case: Case, serving: Serving, predicted: Forecast) -> Iterator[str]:
    """Yield a warning where one sequence needs more than the certain part of the cache."""
    certain = _certain(case, serving)
    beside = graphs_beside(case.spec, case.device, serving)
    if predicted.fits and beside is not None and beside[1] < beside[0]:
        yield (
            f"CUDA graphs may take {beside[0]:,.0f} MiB beside the share in vLLM {serving.version}, "
            f"{beside[1]:,.0f} are left there: a lower gpu-memory-utilization or fewer max-num-seqs make room"
        )
    if predicted.fits and predicted.sequences * certain < 1:
        yield (
            f"a sequence of {predicted.context:,} tokens takes {100 / predicted.sequences:.0f} % of the predicted KV "
            f"cache: where the forecast is off by {ALLOWED_PERCENT:.0f} %, vLLM does not start"
        )


def _predicted(case: Case, serving: Serving) -> Forecast:
    """Return the forecast, with the terms that an engine of the same class reported where there was one."""
    return forecast(case.spec, case.device, serving, measured_for(case.known, case.spec, case.device, serving))


def _values(settings: tuple[Setting, ...]) -> dict[str, Any]:
    return {setting.name: setting.value for setting in settings}


def _share(case: Case) -> Iterator[Setting]:
    """Yield the user's share of a GPU that is not shared; of a shared one the layout says it."""
    wished = case.ask.gpu_memory_utilization
    if wished is not None and case.ranks.share is None:
        yield Setting(name=SHARE, value=wished, reason="serve_gpu_memory_utilization", origin=USER)


def _given(case: Case) -> Iterator[Setting]:
    """Yield the user's options, but for a prefix cache that is switched on: it is on."""
    for name, value in case.ask.options.items():
        if name == "enable-prefix-caching" and options.flag(case.ask.options, name):
            continue
        yield Setting(name=name, value=value, reason="serve_options", origin=USER)


def _context(case: Case, settings: tuple[Setting, ...]) -> tuple[Forecast, int | None]:
    """Return a first forecast, and the context where it is wished or shortened; None is the model's own."""
    wished = case.ask.max_model_len
    asked = wished if isinstance(wished, int) else None
    values = _values(settings)
    predicted = _forecast(case, values, asked)
    certain = _certain(case, serving_of(case, values, asked))
    if not case.ask.fits_context or predicted.sequences * certain >= 1:
        return predicted, asked
    longest = _rounded(int(predicted.max_context * certain))
    if longest < BLOCK:
        return predicted, None
    return _forecast(case, values, longest), longest


def _certain(case: Case, serving: Serving) -> float:
    """Return which part of a predicted cache is certain: all of it where an engine of this class reported."""
    told = measured_for(case.known, case.spec, case.device, serving)
    return 1.0 if told is not None else 1 - ALLOWED_PERCENT / 100


def _forecast(case: Case, values: Mapping[str, Any], context: int | None) -> Forecast:
    return _predicted(case, serving_of(case, values, context))


def _rounded(tokens: int) -> int:
    return tokens // THOUSAND * THOUSAND if tokens >= THOUSAND else tokens // BLOCK * BLOCK


def _length(case: Case, context: int | None) -> Iterator[Setting]:
    if context is None:
        return
    wished = isinstance(case.ask.max_model_len, int)
    reason = (
        "serve_max_model_len" if wished else f"the longest that fits; the model knows {case.spec.max_context:,} tokens"
    )
    yield Setting(name=LENGTH, value=context, reason=reason, origin=USER if wished else FIT)


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
