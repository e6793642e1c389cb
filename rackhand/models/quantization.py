"""How a checkpoint stores its linear weights: read from quantization_config, and the bytes that follow from it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rackhand.models.spec import Quantization


@dataclass(frozen=True, kw_only=True)
class Storage:
    """Bytes of one matrix as stored.

    `element_bytes` is the size of an unquantised element; `scale_bytes` what one group of `group_size` elements of a row
    (with `block_rows` rows to a group) adds, `zero_bits` its zero point, `matrix_bytes` what a whole matrix adds.
    """

    element_bytes: int
    quantization: Quantization | None = None
    scale_bytes: int = 0
    zero_bits: int = 0
    block_rows: int = 1
    matrix_bytes: int = 0
    ignored: tuple[str, ...] = ()

    def packs(self, name: str) -> bool:
        """Say whether the linear weights of this module are quantised."""
        return self.quantization is not None and not any(_matches(pattern, name) for pattern in self.ignored)

    def packed(self, rows: int, columns: int) -> int:
        """Return the bytes of one quantised matrix with `columns` inputs: elements, scales and zero points."""
        assert self.quantization is not None
        group = self.quantization.group_size or columns
        groups = -(-columns // group) * -(-rows // self.block_rows)
        bits = rows * columns * self.quantization.weight_bits + groups * (8 * self.scale_bytes + self.zero_bits)
        return round(bits / 8) + self.matrix_bytes


def _matches(pattern: str, name: str) -> bool:
    if pattern.startswith("re:"):
        try:
            return re.match(pattern[3:], name) is not None
        except re.error:
            return False
    return name == pattern or f".{pattern}." in f".{name}." or name.startswith(f"{pattern}.")


def storage(config: Mapping[str, Any] | None, element_bytes: int, where: str) -> Storage:
    """Read a quantization_config; None or empty: nothing is quantised."""
    return Storage(element_bytes=element_bytes)
