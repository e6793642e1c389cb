"""The forecast against the truth: what was predicted of an instance, and what its engine reported. Pure."""

from collections.abc import Iterator, Sequence

from rackhand.fitting.known import GPU, Measurement, Reported
from rackhand.fitting.terms import Forecast
from rackhand.outcome import Compared, Comparison, Problem
from rackhand.plan import Instance
from rackhand.survey import StateFacts

# Percent of tokens above which a forecast is off, and a new release is said to hold less.
ALLOWED_PERCENT = 5.0
# What an engine reports as one sum where it does not say the parts.
TOGETHER = "activation and non_torch"


def compare(forecast: Forecast | None, reported: Reported) -> Comparison:
    """Hold one instance's forecast against its engine's report, by tokens and by term.

    A report of an engine on a CPU says nothing about a GPU's memory: it is kept and not judged.
    """
    tokens = reported.kv_tokens
    if forecast is None or reported.device != GPU:
        words = "" if tokens is None else f"KV cache {tokens:,} tokens, not compared"
        return Comparison(
            predicted_tokens=forecast.kv_tokens if forecast else None,
            reported_tokens=tokens,
            concurrency=reported.concurrency,
            words=words,
        )
    percent = 100 * (forecast.kv_tokens / tokens - 1) if tokens else None
    terms = tuple(_terms(forecast, reported))
    return Comparison(
        predicted_tokens=forecast.kv_tokens,
        reported_tokens=tokens,
        percent=None if percent is None else round(percent, 2),
        concurrency=reported.concurrency,
        terms=terms,
        off=percent is not None and abs(percent) > ALLOWED_PERCENT,
        words=_words(forecast, tokens, percent),
    )


def _words(forecast: Forecast, tokens: int | None, percent: float | None) -> str:
    if tokens is None or percent is None:
        return "the engine did not say how many tokens its KV cache holds"
    return f"KV cache {tokens:,} tokens, predicted {forecast.kv_tokens:,}, {percent:+.1f} %"


def _terms(forecast: Forecast, said: Reported) -> Iterator[Compared]:
    """Yield the bill's terms; what the log leaves out is the rest of what the engine was allowed."""
    charged = said.graphs_charged_mib or 0.0
    yield _term(forecast, "weights", said.weights_mib)
    if said.activation_mib is not None:
        yield _term(forecast, "activation", said.activation_mib)
        yield _term(forecast, "non_torch", said.outside_torch_mib)
    elif said.weights_mib is not None and said.available_kv_mib is not None:
        allowed = forecast.allowed_mib if said.allowed_mib is None else said.allowed_mib
        rest = allowed - said.weights_mib - said.available_kv_mib - charged
        both = forecast.mib("activation") + forecast.mib("non_torch")
        yield Compared(name=TOGETHER, predicted=round(both, 1), reported=round(rest, 1))
    yield _term(forecast, "cuda_graphs", said.graphs_charged_mib)
    yield _term(forecast, "kv_cache", said.available_kv_mib)


def _term(forecast: Forecast, name: str, reported: float | None) -> Compared:
    return Compared(name=name, predicted=round(forecast.mib(name), 1), reported=reported)


def warning(where: str, comparison: Comparison) -> Problem | None:
    """Return the warning about a forecast that was off, with the term that differs most; None where it was good."""
    if not comparison.off:
        return None
    named = [each for each in comparison.terms if each.name != "kv_cache" and each.reported is not None]
    most = max(named, key=_difference, default=None)
    words = comparison.words
    if most is not None:
        words += f"; {most.name.replace('_', ' ')} {most.reported:,.0f} MiB, predicted {most.predicted:,.0f}"
    return Problem(
        code="forecast-off",
        what=words,
        where=where,
        next_step="nothing has to be done: the next plan of such an instance here uses what was reported",
    )


def _difference(each: Compared) -> float:
    return abs((each.predicted or 0.0) - (each.reported or 0.0))


def losses(state: StateFacts, instances: Sequence[Instance]) -> Iterator[str]:
    """Say what a plan would take away from a host: tokens of KV cache and context, against what runs there now.

    Only engines on GPUs are compared, and only where all instances that run have reported.
    """
    names = {unit.name for unit in state.instances if unit.active == "active"}
    running = [each for each in state.measured if each.name in names and each.running and each.reported.device == GPU]
    forecasts = [instance.forecast for instance in instances if instance.forecast is not None]
    if not names or len(running) != len(names) or len(forecasts) != len(instances):
        return
    yield from _fewer_tokens(running, forecasts)
    contexts = [each.reported.context for each in running if each.reported.context is not None]
    shortest = min((forecast.context for forecast in forecasts), default=0)
    if contexts and shortest < min(contexts):
        yield f"the context becomes {shortest:,} tokens; the running release has {min(contexts):,}"


def _fewer_tokens(running: Sequence[Measurement], forecasts: Sequence[Forecast]) -> Iterator[str]:
    held = [each.reported.kv_tokens for each in running if each.reported.kv_tokens is not None]
    before, after = sum(held), sum(forecast.kv_tokens for forecast in forecasts)
    if len(held) == len(running) and before and after < before * (1 - ALLOWED_PERCENT / 100):
        percent = 100 * (after / before - 1)
        yield (
            f"the KV caches will hold {after:,} tokens; those of the running release reported {before:,} "
            f"({percent:+.1f} %)"
        )
