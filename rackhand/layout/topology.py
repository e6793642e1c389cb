"""Which GPUs of a host are close to each other: islands that NVLink joins, and NUMA nodes. Pure."""

from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from typing import TypeVar

from rackhand.plan import PlannedGpu

T = TypeVar("T")
Gpus = tuple[PlannedGpu, ...]


class Link(Enum):
    """What joins the GPUs of one tensor parallel set."""

    NONE = "one GPU"
    NVLINK = "NVLink"
    NODE = "PCIe within a NUMA node"
    HOST = "PCIe across NUMA nodes"


def ordered(gpus: Iterable[PlannedGpu]) -> Gpus:
    """Put GPUs into the one order that everything follows: by address, slices of a card by UUID."""
    return tuple(sorted(gpus, key=lambda gpu: (gpu.address, gpu.uuid)))


def islands(gpus: Sequence[PlannedGpu]) -> tuple[Gpus, ...]:
    """Group the GPUs that NVLink joins, directly or over others; a GPU without links is an island of its own.

    GPUs behind NVSwitches are one island. Slices are never joined: NVLink between them is not available.
    """
    left, found = list(ordered(gpus)), []
    while left:
        island, edge = [left.pop(0)], 0
        while edge < len(island):
            near = [gpu for gpu in left if _joined(island[edge], gpu)]
            left = [gpu for gpu in left if gpu not in near]
            island, edge = island + near, edge + 1
        found.append(ordered(island))
    return tuple(found)


def _joined(one: PlannedGpu, other: PlannedGpu) -> bool:
    if one.mig or other.mig:
        return False
    direct = other.address in (one.peers or ()) or one.address in (other.peers or ())
    return direct or (one.switched and other.switched)


def nodes(gpus: Sequence[PlannedGpu]) -> tuple[Gpus, ...]:
    """Group GPUs by NUMA node, the linked ones of a node side by side; a host that names no nodes has one."""
    linked = [gpu for island in islands(gpus) for gpu in island]
    numbers = dict.fromkeys(sorted(gpu.numa_node for gpu in gpus))
    return tuple(tuple(gpu for gpu in linked if gpu.numa_node == number) for number in numbers)


def slots(gpus: Sequence[PlannedGpu], tensor: int, pipeline: int, link: Link) -> tuple[Gpus, ...]:
    """Return the GPUs of as many instances as possible, each in rank order: the ranks of a stage side by side.

    Tensor parallel sets lie within one island or node where `link` says so; sets, and the stages of an instance, cross
    nodes only after every node is used up.
    """
    sets = [part for area in _areas(gpus, link) for part in _cut(area, tensor, lambda gpu: gpu.numa_node)]
    staged = _cut(sets, pipeline, lambda part: part[0].numa_node)
    return tuple(tuple(gpu for part in stages for gpu in part) for stages in staged)


def _areas(gpus: Sequence[PlannedGpu], link: Link) -> tuple[Gpus, ...]:
    """Return the groups within which tensor parallel sets are cut."""
    if link is Link.NVLINK:
        return islands(gpus)
    return nodes(gpus) if link is Link.NODE else (tuple(gpu for node in nodes(gpus) for gpu in node),)


def _cut(things: Sequence[T], size: int, node: Callable[[T], int]) -> list[tuple[T, ...]]:
    """Cut into runs of `size`, within nodes first and then from what the nodes leave over."""
    near = [[thing for thing in things if node(thing) == number] for number in dict.fromkeys(map(node, things))]
    rest = [thing for run in near for thing in run[len(run) // size * size :]]
    return [tuple(run[start : start + size]) for run in (*near, rest) for start in range(0, len(run) - size + 1, size)]
