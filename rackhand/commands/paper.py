"""GPUs on paper: idle cards of a set, joined as such cards are joined in the hosts one can buy. Pure."""

import re

from rackhand import gpu_sets
from rackhand.catalog import engine
from rackhand.catalog.gpus import CardRow, gpu_book
from rackhand.outcome import Problem
from rackhand.plan import PlannedGpu
from rackhand.settings import Settings

# Slots of the paper host; only their order matters.
FIRST_SLOT = 0x10
# Boards whose name does not say that they are one of eight on NVSwitches.
BOARDS = re.compile(r"\bSXM|^B[123]00\b|^H20\b|^H20-3e\b")


def gpus(text: str, free_mib: int | None = None) -> tuple[PlannedGpu, ...]:
    """Return the GPUs that a set names; SXM boards and the like are taken to have NVSwitches, other cards no NVLink.

    Raises RackhandError `unknown-gpu` as `gpu_sets.parse` does.
    """
    rows = [row for count, row in gpu_sets.parse(text) for _ in range(count)]
    return tuple(_gpu(slot, row, free_mib) for slot, row in enumerate(rows))


def assumption(found: tuple[PlannedGpu, ...]) -> str:
    """Say what was taken for granted about the links between the cards; empty where there is nothing to link."""
    if len(found) < 2:
        return ""
    switched = sorted({gpu.card for gpu in found if gpu.switched})
    apart = sorted({gpu.card for gpu in found if not gpu.switched})
    words = [f"{', '.join(switched)}: taken to be joined by NVSwitches"] if switched else []
    words += [f"{', '.join(apart)}: taken to be joined by PCIe alone"] if apart else []
    return "; ".join(words)


def too_old(settings: Settings, found: tuple[PlannedGpu, ...]) -> list[Problem]:
    """Return a reason for every card that the wished vLLM has no kernels for."""
    least = engine(settings.engine_version).capability
    cards = {gpu.card: gpu.capability for gpu in found if gpu.capability < least}
    need = ".".join(map(str, least))
    return [
        Problem(
            code="gpu-too-old",
            what=f"{card} has compute capability {have[0]}.{have[1]}, vLLM {settings.engine_version} needs {need}",
            where=card,
            next_step="take newer cards: no current vLLM has kernels for these",
        )
        for card, have in cards.items()
    ]


def _gpu(slot: int, row: CardRow, free_mib: int | None) -> PlannedGpu:
    switched = BOARDS.search(row.name) is not None
    return PlannedGpu(
        address=f"0000:{FIRST_SLOT + slot:02x}:00.0",
        card=row.name,
        memory_mib=gpu_book().cuda_mib(row),
        capability=row.capability,
        free_mib=free_mib,
        peers=None if switched else (),
        switched=switched,
    )
