"""Divide a host's GPUs among instances: one per GPU where the model fits one, tensor parallel where not. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from rackhand import memory
from rackhand.errors import RackhandError
from rackhand.plan import Instance, PlannedGpu
from rackhand.settings import Settings
from rackhand.wishes import Wishes

SIZES = (1, 2, 4, 8, 16)


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Which instance gets which GPUs, and the reason in words."""

    instances: tuple[Instance, ...]
    reason: str


def lay_out(host: str, gpus: Sequence[PlannedGpu], wishes: Wishes) -> Layout:
    """Lay out replicas over groups of equal GPUs; raises RackhandError `does-not-fit` with the numbers."""
    settings = wishes.settings
    positions = sorted(range(len(gpus)), key=lambda position: (gpus[position].card, gpus[position].address))
    groups = [
        list(members)
        for _, members in groupby(positions, key=lambda position: (gpus[position].card, gpus[position].memory_mib))
    ]
    slots: list[tuple[int, ...]] = []
    reasons = []
    refusals = []
    for group in groups:
        try:
            ranks, reason = _ranks(host, gpus[group[0]], len(group), wishes)
        except RackhandError as error:
            refusals.append(error)
            continue
        slots += [tuple(group[start : start + ranks]) for start in range(0, len(group) - ranks + 1, ranks)]
        reasons.append(reason)
    if not slots:
        raise refusals[0]
    return Layout(
        instances=_instances(host, slots, settings, _context(wishes)),
        reason="; ".join(reasons + [error.what for error in refusals]),
    )


def _instances(
    host: str, slots: Sequence[tuple[int, ...]], settings: Settings, context: int | None
) -> tuple[Instance, ...]:
    wished = settings.serve_instances
    if wished != "auto" and wished > len(slots):
        raise RackhandError(
            "too-many-instances",
            f"serve_instances is {wished}, the GPUs carry {len(slots)}",
            host,
            f"set serve_instances to at most {len(slots)}",
        )
    chosen = sorted(slots)[: len(slots) if wished == "auto" else wished]
    return tuple(
        Instance(
            name=f"{settings.model_name}-{number}", port=settings.serve_port + number, gpus=slot, max_model_len=context
        )
        for number, slot in enumerate(chosen)
    )


def _context(wishes: Wishes) -> int | None:
    return wishes.settings.serve_max_model_len or memory.context_length(wishes.weights.config)


def _ranks(host: str, gpu: PlannedGpu, count: int, wishes: Wishes) -> tuple[int, str]:
    """Return how many GPUs of a group one instance takes, and why."""
    possible = _possible(host, gpu, count, wishes)
    settings, weights, context = wishes.settings, wishes.weights, _context(wishes)
    per_token = memory.kv_bytes_per_token(weights.config, memory.element_bytes(settings.serve_options))
    if per_token is None or context is None or not weights.weight_bytes or not gpu.memory_mib:
        unknown = "GPU per instance; the fit is not known before the weights are here"
        return possible[0], f"{gpu.card}: {possible[0]} {unknown}"
    share = settings.serve_gpu_memory_utilization
    for size in possible:
        fit = memory.fit(gpu.memory_mib, share, weights.weight_bytes, per_token, context, size)
        if fit.fits:
            weigh = f"{fit.weights_mib:,} MiB weights, {fit.cache_mib:,} MiB for {context:,} tokens"
            return size, f"{gpu.card}: fits {size} GPU ({weigh}, {fit.budget_mib:,} MiB allowed)"
    raise _does_not_fit(host, gpu, size, fit, context)


def _possible(host: str, gpu: PlannedGpu, count: int, wishes: Wishes) -> list[int]:
    """Return the tensor parallel sizes to try, the smallest first; there is at least one."""
    wished = wishes.settings.serve_tensor_parallel_size
    heads = memory.attention_heads(wishes.weights.config)
    if wished == "auto":
        return [size for size in SIZES if size <= count and (heads is None or heads % size == 0)]
    if wished > count:
        what = f"serve_tensor_parallel_size is {wished}, there are {count} x {gpu.card}"
        raise RackhandError("tensor-parallel", what, host, f"set it to at most {count}, or to 'auto'")
    if heads is not None and heads % wished:
        what = f"{wished} GPUs cannot share {heads} attention heads evenly"
        raise RackhandError("tensor-parallel", what, host, "set serve_tensor_parallel_size to a divisor, or to 'auto'")
    return [wished]


def _does_not_fit(host: str, gpu: PlannedGpu, ranks: int, fit: memory.Fit, context: int) -> RackhandError:
    need = fit.weights_mib + fit.cache_mib + fit.overhead_mib
    room = f"{fit.budget_mib:,} MiB are allowed"
    what = f"on {ranks} x {gpu.card} each GPU needs {need:,} MiB for {context:,} tokens and {room}"
    nearest = (
        f"set serve_max_model_len to at most {fit.longest_context:,}".replace(",", "")
        if fit.longest_context >= 16
        else "use larger GPUs or a quantised model"
    )
    return RackhandError("does-not-fit", what, host, nearest)
