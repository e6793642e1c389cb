"""Say in words how a group of GPUs is used, and what is left of it. Pure."""

from collections.abc import Iterator, Set

from rackhand.hardware import describe
from rackhand.layout.choice import Bench, Choice, shortfalls
from rackhand.layout.terms import LayoutWish
from rackhand.layout.topology import Gpus, Link
from rackhand.layout.ways import Way, hindrance
from rackhand.models.spec import ModelSpec
from rackhand.plan import PlannedGpu

NAMES = {
    Link.NVLINK: "along NVLink",
    Link.NODE: "over PCIe within a NUMA node",
    Link.HOST: "over PCIe across NUMA nodes",
}
WARNINGS = {
    Link.NODE: "warning: without NVLink every layer waits for the bus",
    Link.HOST: "warning: every layer waits for the bus and for the link between the sockets",
}
UNKNOWN = "whether NVLink joins the cards is not known before the driver"


def reason(choice: Choice, count: int, spec: ModelSpec | None, bench: Bench) -> str:
    """Say how `count` instances use a group's GPUs (the choice's slots), divided how, with which numbers."""
    ranks = choice.way.ranks
    each = "one GPU" if ranks == 1 else f"{ranks} GPUs"
    first = f"{count} instances, {each} each" if count > 1 else f"1 instance on {each}"
    if len(bench.shares) > 1:
        first += ", shared by " + " and ".join(f"{share:g} of the memory" for share in bench.shares)
    parts = [first, *_divided(choice, spec, bench), *_numbers(choice, bench), *_alone(choice, bench)]
    return f"{described(choice.group)}: " + "; ".join(parts)


def divided(name: str, way: Way) -> str:
    """Say in a few words why a size of the layout is emitted."""
    if name == "tensor-parallel-size":
        return f"{way.tensor} GPUs hold each layer together, {NAMES[way.link]}"
    return f"{way.pipeline} sets of GPUs hold the layers one behind the other"


def described(group: Gpus) -> str:
    """Count GPUs in words; slices by their profile."""
    return describe(f"{gpu.card} slice {gpu.profile}" if gpu.profile else gpu.card for gpu in group)


def left_over(choice: Choice, used: Set[PlannedGpu], bench: Bench) -> Iterator[str]:
    """Say of every GPU of a group that serves nothing why it does not."""
    idle = [gpu for gpu in choice.group if gpu not in used]
    full = [gpu for gpu in idle if not bench.fits(gpu, choice.way)]
    for gpu in full:
        yield f"{gpu.card} at {gpu.address}: {_lack(gpu, choice.way, bench)}"
    wished = tuple(gpu for gpu in idle if gpu in choice.used)
    if wished:
        yield f"{_placed(wished)}: no more instances are wished"
    rest = tuple(gpu for gpu in idle if gpu not in full and gpu not in wished)
    if rest:
        yield f"{_placed(rest)}: too few for another instance on {choice.way.ranks} GPUs"


def _placed(gpus: Gpus) -> str:
    return f"{described(gpus)} at {', '.join(gpu.address for gpu in gpus)}"


def _divided(choice: Choice, spec: ModelSpec | None, bench: Bench) -> Iterator[str]:
    way = choice.way
    if way.tensor > 1:
        yield f"tensor parallel {way.tensor} {NAMES[way.link]}"
    if way.link in WARNINGS:
        yield WARNINGS[way.link]
    if way.pipeline > 1:
        yield f"pipeline parallel {way.pipeline}, {_why_pipeline(way, spec, bench.wish)}"
    if way.ranks > 1 and way.link is not Link.NVLINK and any(gpu.peers is None for gpu in choice.group):
        yield UNKNOWN


def _why_pipeline(way: Way, spec: ModelSpec | None, wish: LayoutWish) -> str:
    if wish.pipeline_parallel_size:
        return "as wished"
    if hindered := hindrance(spec, way.ranks, whole_experts=wish.expert_parallel):
        return f"because {way.ranks} GPUs cannot share {hindered} evenly"
    return "because no fast link joins them all and a pipeline needs the least of it"


def _numbers(choice: Choice, bench: Bench) -> Iterator[str]:
    found = [bench.tightest(slot, choice.way, share) for slot in choice.slots for share in bench.shares]
    known = [forecast for forecast in found if forecast is not None]
    if not known:
        when = " before the driver tells the GPU's memory" if bench.assess else ""
        yield f"whether the model fits is not known{when}"
        return
    least = min(known, key=lambda forecast: forecast.kv_tokens)
    yield f"{least.mib('weights'):,.0f} MiB of weights per GPU leave {least.kv_tokens:,} tokens of KV cache"


def _alone(choice: Choice, bench: Bench) -> Iterator[str]:
    """Say why one GPU does not do."""
    gpu, way = choice.slots[0][0], Way(tensor=1, pipeline=1, link=Link.NONE)
    if choice.way.ranks > 1 and not bench.fits(gpu, way):
        yield f"on one GPU {_lack(gpu, way, bench)}"


def _lack(gpu: PlannedGpu, way: Way, bench: Bench) -> str:
    told = [problem.what for forecast in bench.forecasts(gpu, way) for problem in shortfalls(forecast)]
    return "; ".join(dict.fromkeys(told))
