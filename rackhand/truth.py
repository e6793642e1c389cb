"""The forecast against the truth: what was predicted of an instance, and what its engine reported. Pure."""

from collections.abc import Iterator, Mapping, Sequence

from rackhand.fitting.known import ALLOWED_PERCENT, CPU, GPU, Measurement, Reported
from rackhand.fitting.terms import Forecast
from rackhand.outcome import Compared, Comparison, Problem
from rackhand.plan import Instance
from rackhand.survey import StateFacts

# What an engine reports as one sum where it does not say the parts.
TOGETHER = "activation and non_torch"


def compare(measurement: Measurement) -> Comparison:
    """Hold one instance's forecast against its engine's report, by tokens and by term.

    A report of an engine on a CPU says nothing about a GPU's memory: it is kept and not judged.
    """
    said, predicted, tokens = measurement.reported, measurement.predicted_tokens, measurement.reported.kv_tokens
    judged = said.device == GPU and predicted is not None
    percent = 100 * (predicted / tokens - 1) if judged and predicted is not None and tokens else None
    return Comparison(
        predicted_tokens=predicted,
        reported_tokens=tokens,
        percent=None if percent is None else round(percent, 2),
        concurrency=said.concurrency,
        terms=tuple(_terms(dict(measurement.predicted), said)) if judged else (),
        off=percent is not None and abs(percent) > ALLOWED_PERCENT,
        words=_words(said, predicted, percent),
    )


def _words(said: Reported, predicted: int | None, percent: float | None) -> str:
    if said.kv_tokens is None:
        return "the engine did not say how many tokens its KV cache holds"
    held = f"KV cache {said.kv_tokens:,} tokens"
    if percent is not None:
        return f"{held}, predicted {predicted:,}, {percent:+.1f} %"
    return f"{held} on a CPU, not compared" if said.device == CPU else f"{held}, not compared"


def _terms(predicted: Mapping[str, float], said: Reported) -> Iterator[Compared]:
    """Yield the bill's terms; what the log leaves out is the rest of what the engine was allowed."""
    yield _term(predicted, "weights", said.weights_mib)
    if said.activation_mib is not None:
        yield _term(predicted, "activation", said.activation_mib)
        yield _term(predicted, "non_torch", said.outside_torch_mib)
    elif said.allowed_mib is not None and said.weights_mib is not None and said.available_kv_mib is not None:
        rest = said.allowed_mib - said.weights_mib - said.available_kv_mib - (said.graphs_charged_mib or 0.0)
        both = predicted.get("activation", 0.0) + predicted.get("non_torch", 0.0)
        yield Compared(name=TOGETHER, predicted_mib=round(both, 1), reported_mib=round(rest, 1))
    yield _term(predicted, "cuda_graphs", said.graphs_charged_mib)
    yield _term(predicted, "kv_cache", said.available_kv_mib)


def _term(predicted: Mapping[str, float], name: str, reported: float | None) -> Compared:
    return Compared(name=name, predicted_mib=predicted.get(name), reported_mib=reported)


def warning(where: str, comparison: Comparison) -> Problem | None:
    """Return the warning about a forecast that was off, with the term that differs most; None where it was good."""
    if not comparison.off:
        return None
    named = [each for each in comparison.terms if each.name != "kv_cache" and each.reported_mib is not None]
    most = max(named, key=_difference, default=None)
    words = comparison.words
    if most is not None:
        figures = f"{most.reported_mib:,.0f} MiB, predicted {most.predicted_mib or 0:,.0f}"
        words = f"{words}; {most.name.replace('_', ' ')} {figures}"
    return Problem(
        code="forecast-off",
        what=words,
        where=where,
        next_step="nothing has to be done: the next plan of such an instance here uses what was reported",
    )


def _difference(each: Compared) -> float:
    return abs((each.predicted_mib or 0.0) - (each.reported_mib or 0.0))


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
