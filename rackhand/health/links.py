"""What joins the cards with each other and with the host: NVLink and its fabric, PCIe. Pure."""

from collections.abc import Iterator, Sequence

from rackhand.catalog import Platform
from rackhand.hardware import Inventory
from rackhand.health.notice import notice
from rackhand.health.seen import EngineSeen, GpuSeen
from rackhand.outcome import Finding

# NVML's numbers (nvml.h, nvmlGpuFabricState_t and NVML_GPU_FABRIC_HEALTH_SUMMARY_…).
FABRIC_STATES = {0: "it says that it has none", 1: "not started", 2: "still being set up"}
COMPLETED = 3
UNHEALTHY, LIMITED = 2, 3
# A card whose engines work at least so much of the time does not save power on its link.
BUSY_PERCENT = 10
SWITCHED = (Platform.NVSWITCH, Platform.NVLINK5, Platform.RACK)
# Older cards have no part of their own in the fabric, and say that they have none; their manager alone makes it.
FIRST_TO_JOIN = (9, 0)
NONE = 0


def fabric(gpus: Sequence[GpuSeen], bus: Inventory) -> Iterator[Finding]:
    """Where switches join the cards, each must have joined the fabric, and all the same one."""
    if bus.platform not in SWITCHED:
        return
    older = {each.address for each in bus.gpus if each.card.capability < FIRST_TO_JOIN}
    for gpu in gpus:
        seen = gpu.fabric
        if seen is None or (seen.state == COMPLETED and not seen.status):
            continue
        if seen.state == NONE and gpu.address in older:
            continue
        state = FABRIC_STATES.get(seen.state, f"set up with NVML error {seen.status}")
        yield notice("fabric-incomplete", state, gpu.address)
    joined = [(gpu, gpu.fabric) for gpu in gpus if gpu.fabric and gpu.fabric.state == COMPLETED]
    for gpu, seen in joined:
        if seen.health == UNHEALTHY:
            yield notice("fabric-unhealthy", gpu=gpu.address)
        elif seen.health == LIMITED:
            yield notice("fabric-limited", gpu=gpu.address)
    cliques = {seen.clique for _, seen in joined}
    if len(cliques) > 1:
        yield notice("fabric-split", f"{len(cliques)} fabrics: {', '.join(sorted(cliques))}")


def nvlinks(gpus: Sequence[GpuSeen], bus: Inventory, engines: Sequence[EngineSeen]) -> Iterator[Finding]:
    """Compare the links that are up with what cards of the same name have.

    Switches use every link of a card. Bridges use some, so the card with the most links up tells how many there are;
    they join pairs, so a card without any may have none. Without any server nobody knows yet whether one will span
    cards: then links are needed.
    """
    needed = not engines or any(len(set(engine.gpus)) > 1 for engine in engines)
    switched = bus.platform in SWITCHED
    for name in sorted({gpu.name for gpu in gpus}):
        same = [gpu for gpu in gpus if gpu.name == name]
        lanes = [gpu.nvlinks or () for gpu in same]
        expected = max((len(each) if switched else sum(each) for each in lanes), default=0)
        for gpu, links in zip(same, lanes, strict=True):
            if sum(links) < expected:
                down = [str(number) for number, up in enumerate(links) if not up] if switched else []
                which = f" (down: {', '.join(down)})" if down else ""
                code = "nvlink-down" if needed else "nvlink-unused"
                code = code if switched or any(links) else "nvlink-none"
                yield notice(code, f"{sum(links)} of {expected} up{which}", gpu.address)


def pcie(gpu: GpuSeen) -> Iterator[Finding]:
    """Width counts at any time; an idle card lowers its generation to save power, so that counts under load alone."""
    link = gpu.pcie
    if link is None:
        return
    if link.width < link.max_width:
        yield notice("pcie-width", f"x{link.width} of x{link.max_width}", gpu.address)
    if link.generation < link.max_generation and (gpu.busy_percent or 0) >= BUSY_PERCENT:
        yield notice("pcie-generation", f"generation {link.generation} of {link.max_generation}", gpu.address)
    if link.replays_later is not None and link.replays_later > link.replays:
        yield notice("pcie-replay", f"{link.replays_later - link.replays} within a second", gpu.address)
