"""Hosts by their GPUs, for tests of the layout; every test says only what its host has."""

from collections.abc import Sequence
from dataclasses import replace

from rackhand.fitting.forecast import forecast
from rackhand.fitting.terms import Device, Forecast, Serving
from rackhand.layout.terms import Assess
from rackhand.models.spec import ModelSpec
from rackhand.plan import PlannedGpu
from tests.surveys import address, uuid

# Memory in MiB as NVML shows it, the driver's reserve, compute capability.
CARDS = {
    "L4": (23_034, 497, (8, 9)),
    "A10": (23_028, 487, (8, 6)),
    "RTX 4090": (24_564, 462, (8, 9)),
    "L40S": (46_068, 600, (8, 9)),
    "A100 80GB": (81_920, 600, (8, 0)),
    "H100 80GB": (81_559, 551, (9, 0)),
    "H200 141GB": (143_771, 615, (9, 0)),
    "T4": (15_360, 445, (7, 5)),
}


def gpu(slot: int, card: str, node: int = 0, cpus: str = "", **more: object) -> PlannedGpu:
    """Return the card in a slot; NVML could be asked and saw no links."""
    memory_mib, reserved_mib, capability = CARDS[card]
    planned = PlannedGpu(
        address=address(slot),
        card=card,
        memory_mib=memory_mib,
        uuid=uuid(slot),
        capability=capability,
        reserved_mib=reserved_mib,
        numa_node=node,
        cpus=cpus,
        peers=(),
    )
    return replace(planned, **more)  # type: ignore[arg-type]


def single(*cards: str) -> list[PlannedGpu]:
    """Return a host with one NUMA node and no links."""
    return [gpu(slot, card) for slot, card in enumerate(cards)]


def two_nodes(card: str, count: int) -> list[PlannedGpu]:
    """Return a host whose first half of cards is on node 0 and whose second half is on node 1."""
    half = [0 if slot < count / 2 else 1 for slot in range(count)]
    return [gpu(slot, card, node, f"{32 * node}-{32 * node + 31}") for slot, node in enumerate(half)]


def switched(card: str = "H100 80GB", count: int = 8) -> list[PlannedGpu]:
    """Return a board with NVSwitches over two nodes."""
    return [replace(each, switched=True) for each in two_nodes(card, count)]


def pairs(card: str = "A100 80GB", count: int = 4, nodes: bool = True) -> list[PlannedGpu]:
    """Return cards that bridges join two by two: 0-1, 2-3, …"""
    found = two_nodes(card, count) if nodes else single(*[card] * count)
    return [replace(each, peers=(address(slot ^ 1),)) for slot, each in enumerate(found)]


def slices(*profiles: str, slot: int = 0) -> list[PlannedGpu]:
    """Return the MIG slices of one H200; 3g.71gb has 71 GB."""
    sizes = {profile: int(profile.split(".")[1].removesuffix("gb")) * 1000 for profile in profiles}
    return [
        gpu(slot, "H200 141GB", mig=True, profile=profile, memory_mib=sizes[profile], uuid=f"MIG-{slot}-{number}")
        for number, profile in enumerate(profiles)
    ]


def assessing(spec: ModelSpec, context: int | None = 4096) -> Assess:
    """Return the real forecast as the layout asks for it."""

    def assess(
        gpu: PlannedGpu, tensor_parallel_size: int, pipeline_parallel_size: int, share: float | None = None
    ) -> Forecast:
        serving = Serving(
            version="0.26.0",
            gpu_memory_utilization=share or 0.92,
            max_num_seqs=128,
            max_num_batched_tokens=2048,
            max_model_len=context,
            tensor_parallel_size=tensor_parallel_size,
            pipeline_parallel_size=pipeline_parallel_size,
        )
        total = gpu.memory_mib - gpu.reserved_mib
        device = Device(card=gpu.card, capability=gpu.capability, total_mib=total, free_mib=gpu.free_mib)
        return forecast(spec, device, serving)

    return assess


def addresses(gpus: Sequence[PlannedGpu], positions: Sequence[int]) -> tuple[str, ...]:
    """Return where the GPUs at some positions are."""
    return tuple(gpus[position].address for position in positions)
