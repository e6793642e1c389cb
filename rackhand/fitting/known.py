"""What engines reported before, and the terms that follow for the same class of host: a forecast read backwards."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from pydantic import TypeAdapter, ValidationError

from rackhand.fitting.forecast import tightest
from rackhand.fitting.terms import MIB, Device, Forecast, Measured, Serving
from rackhand.models.spec import ModelSpec

GPU, CPU = "gpu", "cpu"
# By how many percent of tokens a forecast may be off before that is worth a warning.
ALLOWED_PERCENT = 5.0
# What the terms of a bill do not depend on; the rest of the settings is part of the class.
FREE = {"gpu_memory_utilization": 0.0, "max_model_len": None, "kv_cache_bytes": None, "max_num_seqs": 0}
SECONDS = ("load_s", "compile_s", "init_s", "ready_s")


@dataclass(frozen=True, kw_only=True)
class Reported:
    """What an engine said at its start: MiB and tokens of its fullest rank, seconds; None where it said nothing.

    `consumed_mib` is weights and non-torch together, as newer versions say it; `graphs_charged_mib` what was taken off
    the cache for CUDA graphs, `graphs_mib` what they took. `device` is gpu, cpu or empty.
    """

    device: str = ""
    allowed_mib: float | None = None
    weights_mib: float | None = None
    consumed_mib: float | None = None
    activation_mib: float | None = None
    non_torch_mib: float | None = None
    graphs_charged_mib: float | None = None
    graphs_mib: float | None = None
    available_kv_mib: float | None = None
    kv_tokens: int | None = None
    context: int | None = None
    concurrency: float | None = None
    load_s: float | None = None
    compile_s: float | None = None
    init_s: float | None = None
    ready_s: float | None = None

    @property
    def outside_torch_mib(self) -> float | None:
        """MiB outside PyTorch: as said, or what was consumed without the weights."""
        if self.non_torch_mib is not None or self.consumed_mib is None or self.weights_mib is None:
            return self.non_torch_mib
        return self.consumed_mib - self.weights_mib


Fit = tuple[tuple[str, int | float], ...]


@dataclass(frozen=True, kw_only=True)
class Basis:
    """What an instance's forecast was made for.

    `decided` is a digest of everything that was decided without looking at memory, `fit` holds the settings that were
    chosen to fit the memory.
    """

    device: Device
    serving: Serving
    decided: str
    fit: Fit = ()


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One instance of a release: what was predicted, in MiB by term and in tokens, and what its engine reported.

    `config` is the digest of the configuration that it was started with; `running` says that its release is the
    host's current one. `basis` is None where nothing could be predicted.
    """

    name: str
    config: str
    model: str
    reported: Reported
    basis: Basis | None = None
    predicted: tuple[tuple[str, float], ...] = ()
    predicted_tokens: int | None = None
    release: str = ""
    running: bool = False


@dataclass(frozen=True, kw_only=True)
class Past:
    """A measurement as far as a plan may depend on it: equal on all hosts whose engines said the same."""

    basis: Basis
    reported: Reported
    running: bool


Known = tuple[Past, ...]
_READER = TypeAdapter(Measurement)
_REPORT = TypeAdapter(Reported)


def reported(raw: Mapping[str, Any]) -> Reported:
    """Return what a host read of an engine's report; nothing where that makes no sense."""
    try:
        return _REPORT.validate_python(dict(raw))
    except ValidationError:
        return Reported()


def readable(raw: Any) -> tuple[Measurement, ...]:
    """Return the records of a host, newest first, without those that another version wrote in another form."""
    return tuple(_read(raw if isinstance(raw, list | tuple) else ()))


def _read(raw: Iterable[Any]) -> Iterator[Measurement]:
    for each in raw:
        try:
            yield _READER.validate_python(each)
        except ValidationError:
            continue


def known(records: Iterable[Measurement], model: str) -> Known:
    """Return what is known of one model on a host's GPUs, newest first."""
    silent: dict[str, Any] = dict.fromkeys(SECONDS)
    found = (
        Past(basis=each.basis, reported=replace(each.reported, **silent), running=each.running)
        for each in records
        if each.basis is not None and each.model == model
    )
    return tuple(dict.fromkeys(found))


def kept(past: Known, device: Device, decided: str) -> tuple[Fit, ...]:
    """Return what instances of the running release chose to fit the memory, where all else was decided as now."""
    alike = [each.basis for each in past if each.running and each.basis.decided == decided]
    exact = [basis for basis in alike if basis.device.total_mib == device.total_mib]
    return tuple(dict.fromkeys(basis.fit for basis in exact or alike))


def measured_for(past: Known, spec: ModelSpec, device: Device, serving: Serving) -> Measured | None:
    """Return the terms that an engine of this class reported last, of several the one with the least cache.

    The number of sequences is chosen by memory, so engines with another number tell something, too, if none is equal.
    """
    alike = [each for each in past if _same(each, device, serving) and each.reported.device == GPU]
    equal = [each for each in alike if each.basis.serving.max_num_seqs == serving.max_num_seqs]
    alike = equal or alike
    alike = [each for each in alike if each.running] or alike
    if not alike:
        return None
    return calibrated(spec, min(alike, key=lambda each: each.reported.kv_tokens or 0), exact=bool(equal))


def _same(past: Past, device: Device, serving: Serving) -> bool:
    card = (past.basis.device.card, past.basis.device.capability) == (device.card, device.capability)
    return card and _class(past.basis.serving) == _class(serving)


def _class(serving: Serving) -> Serving:
    values: dict[str, Any] = {field.name: getattr(serving, field.name) for field in fields(serving)} | FREE
    return Serving(**values)


def calibrated(spec: ModelSpec, past: Past, exact: bool = True) -> Measured:
    """Return terms with which a forecast for the same settings gives exactly the reported tokens.

    Logs round to 0.01 GiB, tokens are exact: what the named terms leave unexplained is put outside torch.
    Of several pipeline stages only the sum is known, as the log does not say which stage took what. Where the number
    of sequences is not `exact`, what depends on it is left to its formula.
    """
    said, basis = past.reported, past.basis
    single = basis.serving.pipeline_parallel_size == 1
    terms = Measured(
        weights_mib=said.weights_mib if single else None,
        activation_mib=said.activation_mib if single and exact else None,
        non_torch_mib=said.outside_torch_mib if single and exact else None,
        graphs_mib=said.graphs_charged_mib if single and exact else None,
    )
    if said.kv_tokens is None or basis.serving.kv_cache_bytes is not None:
        return terms
    rank = tightest(spec, basis.device, basis.serving, terms)
    if not rank.pool.block_bytes:
        return terms
    context = basis.serving.max_model_len or spec.max_context
    blocks = -(-said.kv_tokens * rank.pool.blocks_per_sequence(context) // context)
    # Half a block more, so that no rounding loses the last one.
    held = (blocks + 0.5) * rank.pool.block_bytes
    outside = next(term.mib for term in rank.terms if term.name == "non_torch")
    return replace(terms, non_torch_mib=outside + (rank.left - held) / MIB)


def terms_of(forecast: Forecast) -> tuple[tuple[str, float], ...]:
    """Return a forecast's bill as plain pairs of a term and MiB."""
    return tuple((term.name, round(term.mib, 1)) for term in forecast.terms)
