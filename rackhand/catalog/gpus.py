"""gpus.yaml: PCI ids of cards and switches, and what each card asks of the driver."""

from enum import StrEnum
from functools import cache
from typing import Annotated, Self

from pydantic import Field, model_validator

from rackhand.catalog.book import HERE, Book, Entry, read

PciId = Annotated[str, Field(pattern=r"^[0-9a-f]{4}$")]
# Of memory that nothing is known of.
LEAST_SHARE = 0.9
BranchName = Annotated[str, Field(pattern=r"^\d{3}$")]


class Module(StrEnum):
    """Which flavour of NVIDIA's kernel module drives a card."""

    OPEN = "open"
    OPEN_ONLY = "open-only"
    PROPRIETARY_ONLY = "proprietary-only"


class Fabric(StrEnum):
    """Who runs a card's NVLink fabric besides PCI switches: nobody, the host (B200, B300), the rack (GB200)."""

    NONE = "none"
    NVLINK5 = "nvlink5"
    RACK = "rack"


class Memory(StrEnum):
    """What kind of memory a card has: it decides how much of it CUDA sees."""

    HBM = "hbm"
    GDDR = "gddr"
    GDDR_ECC = "gddr-ecc"
    UNIFIED = "unified"


class Generation(Entry):
    """What the cards of one generation share."""

    architecture: str
    module: Module
    min_branch: BranchName
    max_branch: BranchName | None = None


class IdRange(Entry):
    """PCI device ids from `first` to `last`, both included."""

    first: PciId
    last: PciId

    def holds(self, device: int) -> bool:
        return int(self.first, 16) <= device <= int(self.last, 16)


class FallbackRange(IdRange):
    """Where an id that is not in the table belongs; `capability` is the least that the range can have."""

    generation: str
    capability: tuple[int, int]


class SwitchRange(IdRange):
    """Ids of one NVSwitch chip."""

    name: str


class CardRow(Entry):
    """One product; `subsystem` (vendor:device) tells apart products that share an id.

    `memory_mib` is nominal; `cuda_mib` is what CUDA reports as the whole memory, None where nobody wrote it down.
    `usual` marks what people mean by a product's bare name where its cards differ (H100: SXM5, 80 GB).
    """

    ids: Annotated[tuple[PciId, ...], Field(min_length=1)]
    subsystem: Annotated[str, Field(pattern=r"^[0-9a-f]{4}:[0-9a-f]{4}$")] | None = None
    name: Annotated[str, Field(min_length=1)]
    generation: str
    capability: tuple[int, int]
    memory_mib: Annotated[int, Field(gt=0)]
    memory: Memory = Memory.GDDR
    cuda_mib: Annotated[int, Field(gt=0)] | None = None
    min_branch: BranchName | None = None
    fabric: Fabric = Fabric.NONE
    usual: bool = False


class GpuBook(Book):
    """The whole file."""

    generations: dict[str, Generation]
    ranges: tuple[FallbackRange, ...]
    nvswitches: tuple[SwitchRange, ...]
    cards: tuple[CardRow, ...]

    @model_validator(mode="after")
    def _rows_agree(self) -> Self:
        used = {row.generation for row in self.cards} | {row.generation for row in self.ranges}
        if unknown := sorted(used - self.generations.keys()):
            raise ValueError(f"unknown generation: {', '.join(unknown)}")
        keys = [(device, row.subsystem) for row in self.cards for device in row.ids]
        if twice := sorted({device for device, subsystem in keys if keys.count((device, subsystem)) > 1}):
            raise ValueError(f"id in two rows: {', '.join(twice)}")
        starts = [int(row.first, 16) for row in self.ranges]
        ends = [int(row.last, 16) + 1 for row in self.ranges]
        if [0, *ends] != [*starts, 0x10000]:
            raise ValueError("the fallback ranges must meet and cover every id")
        return self

    def card(self, device: int, subsystem: str) -> CardRow | None:
        """Find a card by PCI device id and subsystem (vendor:device), the exact subsystem first."""
        rows = [row for row in self.cards if f"{device:04x}" in row.ids]
        exact = [row for row in rows if row.subsystem == subsystem]
        return next(iter([*exact, *(row for row in rows if row.subsystem is None)]), None)

    def cuda_mib(self, row: CardRow) -> int:
        """Return what CUDA reports as a card's whole memory, in MiB: as read on one, or the least share of its like.

        Its like are the rows with a reading of the same kind and size of memory, or at least of the same kind.
        They show 98.3 to 99.7 % of nominal for HBM, 91.0 to 92.5 % for GDDR with ECC (check bits lie in the memory
        itself) and 96.1 to 99.0 % for other GDDR; newer drivers keep a little more than older ones.
        """
        if row.cuda_mib is not None:
            return row.cuda_mib
        shares = {
            (other.memory_mib == row.memory_mib, other.cuda_mib / other.memory_mib)
            for other in self.cards
            if other.cuda_mib and other.memory is row.memory
        }
        like = [share for same, share in shares if same] or [share for _, share in shares]
        return int(row.memory_mib * min(like, default=LEAST_SHARE))

    def fallback(self, device: int) -> FallbackRange:
        """Find the generation that an unlisted device id belongs to."""
        return next(row for row in self.ranges if row.holds(device))

    def is_nvswitch(self, device: int) -> bool:
        return any(row.holds(device) for row in self.nvswitches)


@cache
def gpu_book() -> GpuBook:
    """Return the checked table of cards."""
    return read(GpuBook, HERE / "gpus.yaml")
