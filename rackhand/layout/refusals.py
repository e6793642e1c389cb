"""Why a host, or a group of its GPUs, cannot serve a model: each reason with its number and the nearest plan. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass

from rackhand.fitting.terms import Forecast
from rackhand.layout.choice import Bench, possible, shortfalls, unserved
from rackhand.layout.terms import LayoutWish
from rackhand.layout.topology import Gpus, Link, slots
from rackhand.layout.ways import Way, hindrance, most_stages
from rackhand.layout.words import described
from rackhand.models.spec import ModelSpec
from rackhand.outcome import Problem

MOST_SHARED = 0.95
MOST_HOSTS = 16
LAST_PORT = 65_535
# A context shorter than this is no nearest plan.
USABLE_TOKENS = 1024


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One way that a group has GPUs for and that does not fit."""

    way: Way
    forecast: Forecast


def of_wish(host: str, gpus: int, spec: ModelSpec | None, wish: LayoutWish) -> Iterator[Problem]:
    """Check what is wrong with a wish whatever the GPUs; `gpus` are counted to offer sizes that the host has."""
    tensor, pipeline, total = wish.tensor_parallel_size or 1, wish.pipeline_parallel_size or 1, sum(wish.shares)
    whole = wish.expert_parallel
    if hindered := hindrance(spec, tensor, whole_experts=whole):
        able = (size for size in range(1, gpus + 1) if not hindrance(spec, size, whole_experts=whole))
        sizes = ", ".join(map(str, able))
        what = f"{tensor} GPUs cannot share {hindered} evenly"
        yield _problem(host, "tensor-parallel", what, f"set serve_tensor_parallel_size to one of {sizes}, or to 'auto'")
    if spec and pipeline > (most := most_stages(spec, pipeline)):
        layers = f"{spec.layers} layers" if most == spec.layers else f"the layers of {spec.architecture}"
        what = f"vLLM cannot divide {layers} into {pipeline} pipeline stages"
        yield _problem(host, "pipeline-parallel", what, f"set serve_pipeline_parallel_size to at most {most}")
    if total > MOST_SHARED:
        what = f"the shares of a GPU's memory add up to {total:g}, and at most {MOST_SHARED:g} can be given away"
        each = int(MOST_SHARED / len(wish.shares) * 100) / 100
        yield _problem(host, "gpu-shares", what, f"set serve_gpu_shares to at most {each:g} each")


def of_group(host: str, group: Gpus, spec: ModelSpec | None, wish: LayoutWish, bench: Bench) -> tuple[Problem, ...]:
    """Return why no way of dividing the model fits this group."""
    if unserved(group, wish):
        return (_sliced(host, group, wish),)
    found = [_attempt(group, way, bench) for way in possible(group, spec, wish)]
    if not found:
        return (_too_few(host, group, wish),)
    best = max(found, key=lambda item: (item.forecast.max_context, tuple(-part for part in item.way.preference)))
    hopeless = best.forecast.max_context < min(USABLE_TOKENS, best.forecast.context)
    if hopeless and not (group[0].mig or wish.shares):
        widest = max(found, key=lambda item: (item.way.ranks, -item.way.preference[0]))
        more = _more_hosts(host, group, spec, wish, bench, widest)
        if more is not None:
            return (more,)
    place = described(group) + ("" if best.way.ranks == 1 else f" ({_sizes(best.way)})")
    return tuple(
        _problem(host, problem.code, f"{place}: {problem.what}", problem.next_step)
        for problem in shortfalls(best.forecast)
    )


def of_count(host: str, seats: int, wish: LayoutWish) -> Iterator[Problem]:
    """Check the number of instances against what the GPUs carry, and their ports."""
    wished = wish.instances or seats
    if wished > seats:
        what = f"serve_instances is {wished}, the GPUs carry {seats}"
        yield _problem(host, "too-many-instances", what, f"set serve_instances to at most {seats}")
    last = wish.port + min(wished, seats) - 1
    if last > LAST_PORT:
        what = f"the last of {min(wished, seats)} instances would listen on port {last}"
        yield _problem(host, "port-range", what, f"set serve_port to at most {LAST_PORT - (last - wish.port)}")


def no_gpu(host: str) -> Problem:
    """Say that there is nothing to lay out on."""
    return _problem(host, "no-gpu", "no GPU to serve with", "check the hardware (lspci -nn)")


def _attempt(group: Gpus, way: Way, bench: Bench) -> Attempt:
    """Take the set of GPUs with the most room: of each set, and of several shares, the tightest counts."""
    found = slots(group, way.tensor, way.pipeline, way.link)
    tight = [min((each for gpu in slot for each in bench.forecasts(gpu, way)), key=_room) for slot in found]
    return Attempt(way=way, forecast=max(tight, key=_room))


def _room(forecast: Forecast) -> tuple[bool, int]:
    return forecast.fits, forecast.max_context


def _sliced(host: str, group: Gpus, wish: LayoutWish) -> Problem:
    cards = ", ".join(dict.fromkeys(gpu.address for gpu in group))
    if wish.mig:
        what = f"MIG is on for {cards} and there is no slice"
        return _problem(host, "mig", what, 'name its slices in gpu_mig, or set gpu_mig = "off"')
    what = f"MIG is on for {cards}; vLLM cannot be pinned to a slice by UUID"
    return _problem(host, "mig", what, 'set gpu_mig = "off", or leave this host out')


def _too_few(host: str, group: Gpus, wish: LayoutWish) -> Problem:
    tensor, pipeline, here = wish.tensor_parallel_size or 1, wish.pipeline_parallel_size or 1, described(group)
    if tensor > 1:
        what = f"serve_tensor_parallel_size is {tensor}, there {'is' if len(group) == 1 else 'are'} {here}"
        if pipeline > 1:
            what += f" for {pipeline} pipeline stages"
        most = 1 if group[0].mig else max(1, len(group) // pipeline)
        return _problem(host, "tensor-parallel", what, f"set it to at most {most}, or to 'auto'")
    what = f"serve_pipeline_parallel_size is {pipeline}, there {'is' if len(group) == 1 else 'are'} {here}"
    return _problem(host, "pipeline-parallel", what, f"set it to at most {len(group)}, or to 'auto'")


def _more_hosts(
    host: str, group: Gpus, spec: ModelSpec | None, wish: LayoutWish, bench: Bench, widest: Attempt
) -> Problem | None:
    """Count the hosts like this one that would hold the model: tensor parallel within a host, pipelines across."""
    for hosts in range(2, MOST_HOSTS + 1):
        for way in _across(hosts, group, spec, wish):
            if any(bench.fits(gpu, way) for gpu in group):
                lack = "; ".join(problem.what for problem in shortfalls(widest.forecast))
                what = f"{described(group)}: {lack}; {hosts} hosts like this one would hold the model ({_sizes(way)})"
                return _problem(
                    host,
                    "needs-more-hosts",
                    what,
                    "take larger or more GPUs in one host, or a quantised model: an instance over several hosts is not "
                    "planned yet",
                )
    return None


def _across(hosts: int, group: Gpus, spec: ModelSpec | None, wish: LayoutWish) -> Iterator[Way]:
    wished = wish.tensor_parallel_size
    for tensor in (wished,) if wished else range(len(group), 0, -1):
        for sets in range(len(group) // tensor, 0, -1):
            pipeline = hosts * sets
            free = wish.pipeline_parallel_size in (None, pipeline)
            if (
                free
                and pipeline <= most_stages(spec, pipeline)
                and not hindrance(spec, tensor, whole_experts=wish.expert_parallel)
            ):
                yield Way(tensor=tensor, pipeline=pipeline, link=Link.NVLINK if tensor > 1 else Link.NONE)


def _sizes(way: Way) -> str:
    parts = [(f"tensor parallel {way.tensor}", way.tensor), (f"pipeline parallel {way.pipeline}", way.pipeline)]
    return ", ".join(words for words, size in parts if size > 1) or "one GPU"


def _problem(host: str, code: str, what: str, next_step: str) -> Problem:
    return Problem(code=code, what=what, where=host, next_step=next_step)
