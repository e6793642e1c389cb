"""The nearest plans that work, where there is none: each change is really planned before it is named. Pure."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from pydantic import ValidationError

from rackhand.arrangement import MEMORY_CODES, Arrangement, arrange, device_of
from rackhand.catalog.serving import serving_book
from rackhand.fitting.known import Known
from rackhand.models.spec import Attention, ModelSpec
from rackhand.outcome import Problem
from rackhand.plan import PlannedGpu
from rackhand.serving.presets import equal_share, largest_share
from rackhand.serving.resolve import fp8_from
from rackhand.settings import Settings

LARGER_SHARE = 0.95
SHORTEST = 16
# More are in few hosts that one can have.
MOST_GPUS = 8
NOTHING = "take a smaller or more strongly quantised model"

Options = dict[str, Any]
Change = tuple[str, Settings, Sequence[PlannedGpu]]


@dataclass(frozen=True)
class Wish:
    """Settings as a key: equal where their text is."""

    text: str
    settings: Settings = field(compare=False)


@dataclass(frozen=True, kw_only=True)
class Nearest:
    """One change that brings a plan: in words, as the settings and GPUs that it leads to, and what comes of it."""

    words: str
    settings: Settings
    gpus: tuple[PlannedGpu, ...]
    arrangement: Arrangement


def arranged(
    host: str,
    gpus: Sequence[PlannedGpu],
    spec: ModelSpec,
    settings: Settings,
    known: Known = (),
) -> Arrangement | tuple[Problem, ...]:
    """Arrange a model on a host, once for all hosts that are alike; a refusal names every single change that works."""
    alike = tuple(gpu if gpu.profile else replace(gpu, uuid="") for gpu in gpus)
    found = _arranged(alike, spec, Wish(settings.model_dump_json(), settings), known)
    if isinstance(found, Arrangement):
        return replace(found, instances=tuple(replace(instance, hosts=(host,)) for instance in found.instances))
    return tuple(replace(problem, where=host) for problem in found)


@lru_cache(maxsize=1024)
def _arranged(
    gpus: tuple[PlannedGpu, ...], spec: ModelSpec, wish: Wish, known: Known
) -> Arrangement | tuple[Problem, ...]:
    found = arrange("", gpus, spec, wish.settings, known)
    if isinstance(found, Arrangement) or not any(problem.code in MEMORY_CODES for problem in found):
        return found
    step = ", or ".join(near.words for near in nearest(gpus, spec, wish.settings, known)) or NOTHING
    return tuple(replace(problem, next_step=step) if problem.code in MEMORY_CODES else problem for problem in found)


def nearest(gpus: Sequence[PlannedGpu], spec: ModelSpec, settings: Settings, known: Known = ()) -> Iterator[Nearest]:
    """Yield every single change that brings a plan, the least intrusive first."""
    planned = _planner(spec, known)
    for words, changed, taken in _changes(gpus, spec, settings, planned):
        found = planned(taken, changed)
        if found is not None and _accepted(changed):
            yield Nearest(words=words, settings=changed, gpus=tuple(taken), arrangement=found)


def _planner(spec: ModelSpec, known: Known) -> Callable[[Sequence[PlannedGpu], Settings], Arrangement | None]:
    done: dict[tuple[tuple[PlannedGpu, ...], Wish], Arrangement | None] = {}

    def planned(gpus: Sequence[PlannedGpu], settings: Settings) -> Arrangement | None:
        key = tuple(gpus), Wish(settings.model_dump_json(), settings)
        if key not in done:
            found = arrange("", gpus, spec, settings, known, explain=False)
            done[key] = found if isinstance(found, Arrangement) else None
        return done[key]

    return planned


def _changes(
    gpus: Sequence[PlannedGpu],
    spec: ModelSpec,
    settings: Settings,
    planned: Callable[[Sequence[PlannedGpu], Settings], Arrangement | None],
) -> Iterator[Change]:
    """Yield changes in words with the settings and GPUs that they lead to, the least intrusive first."""
    if any(gpu.free_mib is not None for gpu in gpus):
        yield "end what else holds memory of the GPUs", settings, [replace(gpu, free_mib=None) for gpu in gpus]
    # Read off the shortest plan: one that was fitted to a context has fewer sequences, and so more room.
    shorter = planned(gpus, _changed(settings, serve_max_model_len=SHORTEST))
    if shorter is not None:
        context = min(item.forecast.max_context for item in shorter.instances if item.forecast)
        changed = _changed(settings, serve_max_model_len=context)
        yield f"set serve_max_model_len to at most {context}", changed, gpus
    helped = False
    for options in _compressions(gpus, spec, settings):
        changed = _changed(settings, serve_options={**settings.serve_options, **options})
        if helped and len(options) > 1:
            continue
        helped = helped or planned(gpus, changed) is not None
        names = " and ".join(f'serve_options["{name}"]' for name in options)
        yield f'set {names} to "fp8"', changed, gpus
    yield from _other_sizes(gpus, settings)
    yield from _more_gpus(gpus, settings, planned)


def _other_sizes(gpus: Sequence[PlannedGpu], settings: Settings) -> Iterator[Change]:
    """Yield the largest share of what is free on the cards, and the sizes of the layout left to the planner."""
    share = min([LARGER_SHARE, *(largest_share(device_of(gpu)) for gpu in gpus)])
    if share > 0 and not settings.serve_gpu_shares and settings.serve_gpu_memory_utilization != share:
        changed = _changed(settings, serve_gpu_memory_utilization=share)
        yield f"set serve_gpu_memory_utilization to {share:g}", changed, gpus
    count = len(settings.serve_gpu_shares)
    each = min((equal_share(device_of(gpu), count) for gpu in gpus), default=0.0) if count else 0.0
    if 0 < each < max(settings.serve_gpu_shares, default=0.0):
        changed = _changed(settings, serve_gpu_shares=(each,) * count)
        yield f"set serve_gpu_shares to at most {each:g} each", changed, gpus
    for name in ("serve_tensor_parallel_size", "serve_pipeline_parallel_size"):
        if getattr(settings, name) != "auto":
            yield f"set {name} to 'auto'", _changed(settings, **{name: "auto"}), gpus


def _compressions(gpus: Sequence[PlannedGpu], spec: ModelSpec, settings: Settings) -> Iterator[Options]:
    """Yield what fp8 can make smaller on these cards, as options of vLLM; both at once last."""
    book, given = serving_book(), settings.serve_options
    least = min((gpu.capability for gpu in gpus), default=(0, 0))
    latent = any(group.attention is Attention.MLA for group in spec.groups)
    found: Options = {}
    if least >= book.fp8_cache.capability and not latent and "kv-cache-dtype" not in given:
        found["kv-cache-dtype"] = "fp8"
    if least >= fp8_from(settings.engine_version) and spec.quantization is None and "quantization" not in given:
        found["quantization"] = "fp8"
    yield from ({name: value} for name, value in found.items())
    if len(found) > 1:
        yield found


def _more_gpus(
    gpus: Sequence[PlannedGpu],
    settings: Settings,
    planned: Callable[[Sequence[PlannedGpu], Settings], Arrangement | None],
) -> Iterator[Change]:
    """Yield the least power of two of such GPUs in one host that carries the model."""
    if not gpus or any(gpu.card != gpus[0].card for gpu in gpus):
        return
    free = _changed(settings, serve_tensor_parallel_size="auto", serve_pipeline_parallel_size="auto")
    count = 1 << len(gpus).bit_length()
    while count <= MOST_GPUS:
        more = tuple(replace(gpus[0], address=f"{number:04x}", uuid=f"{number:04x}") for number in range(count))
        if planned(more, free):
            yield f"take a host with {count} of {gpus[0].card}", free, more
            return
        count *= 2


def _changed(settings: Settings, **values: Any) -> Settings:
    return settings.model_copy(update=values)


def _accepted(settings: Settings) -> bool:
    """Tell whether a deploy takes these settings: a change is made without checking them."""
    try:
        Settings.model_validate(settings.model_dump())
    except ValidationError:
        return False
    return True
