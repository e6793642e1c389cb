"""What cards can be cut into, and are, in the files of the practice fleet's hardware."""

from dataclasses import dataclass

from pydantic import ConfigDict


class Strict:
    """Refuses what it does not know."""

    __pydantic_config__ = ConfigDict(extra="forbid")


@dataclass(frozen=True, kw_only=True)
class MigProfile(Strict):
    """A kind of slice; `number` is nvml.h's, the rest is what NVML says of it on one card, `most` how many of it."""

    number: int
    id: int
    slices: int
    most: int
    memory_mib: int
    multiprocessors: int
    copies: int
    decoders: int
    jpegs: int
    ofas: int
    name: str


@dataclass(frozen=True, kw_only=True)
class MigSlice(Strict):
    """One MIG device of a GPU, for instance profile 3g.71gb."""

    profile: str
    compute_slices: int
    memory_mib: int
