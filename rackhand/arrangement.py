"""Arrange one model on one host's GPUs: layout and engine settings, decided by the same forecasts. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from rackhand.catalog import engine
from rackhand.catalog.memory import memory_book
from rackhand.catalog.serving import Preset
from rackhand.fitting.known import Known
from rackhand.fitting.terms import Device, Forecast
from rackhand.layout.lay_out import lay_out
from rackhand.layout.terms import Assess, Layout, LayoutWish
from rackhand.models.spec import ModelSpec
from rackhand.outcome import Problem
from rackhand.plan import Instance, PlannedGpu
from rackhand.serving.choose import choose
from rackhand.serving.options import flag
from rackhand.serving.terms import Ask, Case, Choice, Ranks, ask_of
from rackhand.settings import Settings

LEAST_CONTEXT = 1024
# Reasons that depend on how the model is divided.
MEMORY_CODES = frozenset({"does-not-fit", "memory-in-use", "needs-more-hosts"})


@dataclass(frozen=True, kw_only=True)
class Arrangement:
    """The instances with all their settings, and in words: why so, what else could be had, what to be wary of."""

    instances: tuple[Instance, ...]
    reasons: tuple[str, ...]
    left_out: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def arrange(
    host: str,
    gpus: Sequence[PlannedGpu],
    spec: ModelSpec,
    settings: Settings,
    known: Known = (),
    *,
    explain: bool = True,
) -> Arrangement | tuple[Problem, ...]:
    """Return the arrangement, or every reason against one; without `explain` perhaps none of them.

    Where the context may be shortened, the model's own is tried first on all sizes, then half of it and so on: so the
    longest context decides about the number of GPUs, to a factor of two.
    """
    ask, wish = ask_of(settings), wish_of(settings)
    problems: tuple[Problem, ...] = ()
    for least in _contexts(ask, spec):
        assess = _assess(spec, ask, wish, known, least)
        found = lay_out(host, gpus, spec, wish, assess, explain=explain and not least)
        if isinstance(found, Layout):
            return _settled(found, gpus, spec, ask, wish, known)
        problems = found
    return (*problems, *_besides(host, gpus, spec, ask, problems)) if explain and problems else problems


def _besides(
    host: str, gpus: Sequence[PlannedGpu], spec: ModelSpec, ask: Ask, problems: Sequence[Problem]
) -> Iterator[Problem]:
    """Yield what else is wrong on every card, whatever the layout: reasons that a refused layout would hide."""
    told = {problem.code for problem in problems}
    if not gpus or told & MEMORY_CODES:
        return
    cards = sorted(map(device_of, gpus), key=lambda card: (card.capability, card.total_mib, card.card))
    kinds = {card.capability: card for card in cards}.values()
    found = [choose(Case(spec=spec, device=card, ask=ask)).forecast.reasons for card in kinds]
    everywhere = set[str].intersection(*({reason.code for reason in reasons} for reasons in found))
    for reason in found[-1]:
        if reason.code in everywhere - told - MEMORY_CODES:
            yield replace(reason, where=host)


def wish_of(settings: Settings) -> LayoutWish:
    """Take what concerns the layout out of one host's settings."""
    return LayoutWish(
        name=settings.model_name,
        port=settings.serve_port,
        instances=_number(settings.serve_instances),
        tensor_parallel_size=_number(settings.serve_tensor_parallel_size),
        pipeline_parallel_size=_number(settings.serve_pipeline_parallel_size),
        shares=settings.serve_gpu_shares,
        mig=engine(settings.engine_version).mig,
        expert_parallel=bool(flag(settings.serve_options, "enable-expert-parallel")),
    )


def device_of(gpu: PlannedGpu) -> Device:
    """Return a GPU as CUDA shows it to the engine: without what the driver keeps; unknown memory fits nothing."""
    total = max(1, gpu.memory_mib - gpu.reserved_mib)
    return Device(card=gpu.card, capability=gpu.capability, total_mib=total, free_mib=gpu.free_mib)


def _beside(gpu: PlannedGpu, share: float | None, wish: LayoutWish) -> Device:
    """Return a GPU as an instance finds it: where it is shared, each of the others holds its share and its context."""
    device = device_of(gpu)
    if share is None:
        return device
    others = sum(wish.shares) - share
    held = others * device.total_mib + (len(wish.shares) - 1) * memory_book().context.mib
    free_mib = device.total_mib if device.free_mib is None else device.free_mib
    return replace(device, free_mib=max(0, int(free_mib - held))) if others > 0 else device


def _number(wished: int | str) -> int | None:
    return wished if isinstance(wished, int) else None


def _contexts(ask: Ask, spec: ModelSpec) -> Iterator[int]:
    context = spec.max_context
    while ask.fits_context and context > LEAST_CONTEXT:
        yield context
        context //= 2
    yield 0


def _assess(spec: ModelSpec, ask: Ask, wish: LayoutWish, known: Known, least: int) -> Assess:
    def assess(
        gpu: PlannedGpu, tensor_parallel_size: int, pipeline_parallel_size: int, share: float | None = None
    ) -> Forecast:
        ranks = Ranks(tensor=tensor_parallel_size, pipeline=pipeline_parallel_size, share=share)
        case = Case(spec=spec, device=_beside(gpu, share, wish), ask=ask, ranks=ranks, known=known)
        found = choose(case).forecast
        return replace(found, fits=found.fits and found.context >= least)

    return assess


def _settled(
    layout: Layout, gpus: Sequence[PlannedGpu], spec: ModelSpec, ask: Ask, wish: LayoutWish, known: Known
) -> Arrangement:
    """Give every instance of a layout its engine settings: those of its GPU with the least room."""
    instances, chosen = [], []
    for instance in layout.instances:
        ranks = Ranks(
            tensor=instance.tensor_parallel_size, pipeline=instance.pipeline_parallel_size, share=instance.share
        )
        cases = (
            Case(spec=spec, device=_beside(gpus[position], instance.share, wish), ask=ask, ranks=ranks, known=known)
            for position in instance.gpus
        )
        choice = min(map(choose, cases), key=lambda choice: choice.forecast.kv_tokens)
        instances.append(_with(instance, choice))
        chosen.append(choice)
    return Arrangement(
        instances=tuple(instances),
        reasons=layout.reasons,
        left_out=(
            *layout.left_out,
            *_once(line for choice in chosen for line in choice.left_out),
            *_quicker(layout, gpus, spec, ask),
        ),
        warnings=_once(line for choice in chosen for line in choice.warnings),
    )


def _quicker(layout: Layout, gpus: Sequence[PlannedGpu], spec: ModelSpec, ask: Ask) -> Iterator[str]:
    """Say what linked GPUs would do for latency: the layout takes replicas, which carry more users."""
    linked = len(gpus) > 1 and any(gpu.switched or gpu.peers for gpu in gpus)
    alone = all(len(instance.gpus) == 1 and instance.share is None for instance in layout.instances)
    if ask.preset is Preset.LATENCY and linked and alone and spec.heads % 2 == 0:
        yield (
            "serve_tensor_parallel_size = 2 would shorten each answer: NVLink joins the GPUs, and each would read half "
            "of the weights for a token; half as many instances"
        )


def _with(instance: Instance, choice: Choice) -> Instance:
    length = next((item.value for item in choice.settings if item.name == "max-model-len"), None)
    told = instance.forecast is not None
    return replace(
        instance,
        max_model_len=length,
        settings=(*instance.settings, *choice.settings),
        forecast=choice.forecast if told else None,
        basis=choice.basis if told else None,
    )


def _once(lines: Iterator[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(lines))
