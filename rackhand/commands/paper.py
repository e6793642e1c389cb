"""GPUs on paper: idle cards of a set, joined as such cards are joined in the hosts one can buy. Pure."""

import re
from dataclasses import replace

from rackhand import gpu_sets
from rackhand.catalog import engine
from rackhand.catalog.gpus import CardRow, gpu_book
from rackhand.errors import RackhandError
from rackhand.outcome import Problem
from rackhand.plan import PlannedGpu
from rackhand.settings import Settings

# Slots of the paper host; only their order matters.
FIRST_SLOT = 0x10
# Boards whose name does not say that they are one of eight on NVSwitches.
BOARDS = re.compile(r"\bSXM|^B[123]00\b|^H20\b|^H20-3e\b")
# A MIG slice, typed behind its card: 7xH100-SXM-80GB-MIG-1g.10gb.
PROFILE = re.compile(r"[\s:/-]+(?:mig[\s:/-]*)?(?P<profile>[1-7]g\.(?P<gb>\d+)gb)$", re.IGNORECASE)


def gpus(text: str, free_mib: int | None = None) -> tuple[PlannedGpu, ...]:
    """Return the GPUs that a set names; SXM boards and the like are taken to have NVSwitches, other cards no NVLink.

    Raises RackhandError `unknown-gpu` as `gpu_sets.parse` does.
    """
    parts = [(PROFILE.search(part), gpu_sets.parse(PROFILE.sub("", part))) for part in gpu_sets.SEPARATOR.split(text)]
    rows = [(row, found) for found, counted in parts for count, row in counted for _ in range(count)]
    return tuple(_gpu(slot, row, found, free_mib) for slot, (row, found) in enumerate(rows))


def assumption(found: tuple[PlannedGpu, ...]) -> str:
    """Say what was taken for granted about the links between the cards; empty where there is nothing to link."""
    whole = [gpu for gpu in found if not gpu.mig]
    several = {gpu.card: gpu.switched for gpu in whole if [other.card for other in whole].count(gpu.card) > 1}
    switched = sorted(card for card, joined in several.items() if joined)
    apart = sorted(several.keys() - set(switched))
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


def _gpu(slot: int, row: CardRow, found: re.Match[str] | None, free_mib: int | None) -> PlannedGpu:
    switched = BOARDS.search(row.name) is not None
    whole = PlannedGpu(
        address=f"0000:{FIRST_SLOT + slot:02x}:00.0",
        card=row.name,
        memory_mib=gpu_book().cuda_mib(row),
        capability=row.capability,
        free_mib=free_mib,
        peers=None if switched else (),
        switched=switched,
    )
    return whole if found is None else _slice(whole, found, row)


def _slice(whole: PlannedGpu, found: re.Match[str], row: CardRow) -> PlannedGpu:
    """Return a slice of a card, with as much of its memory as the profile's name says."""
    part = int(found["gb"]) * 1024 / row.memory_mib
    if part > 1:
        what = f"{row.name} has no slice of {found['gb']} GB"
        raise RackhandError("unknown-gpu", what, "--gpu", "name a profile that nvidia-smi mig -lgip lists")
    profile = found["profile"].lower()
    return replace(whole, mig=True, profile=profile, memory_mib=int(whole.memory_mib * part), switched=False, peers=())
