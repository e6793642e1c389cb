"""The towers of multimodal models: what turns pictures or sound into tokens, and what fits it to the decoder."""

from dataclasses import dataclass

from rackhand.models.matrices import Matrix
from rackhand.models.reading import Reader


@dataclass(frozen=True, kw_only=True)
class Towers:
    """What a model has beside its decoder; `source` says when it was only estimated."""

    kinds: tuple[str, ...]
    matrices: tuple[Matrix, ...]
    source: str = ""


def read(top: Reader, hidden: int) -> Towers:
    return Towers(kinds=(), matrices=())
