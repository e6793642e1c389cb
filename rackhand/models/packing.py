"""How the linear weights of a checkpoint are packed, and the bytes that follow from it."""

import fnmatch
import re
from dataclasses import dataclass

from rackhand.models.spec import Quantization

WEIGHT_ONLY = ("auto_awq", "auto_gptq", "inc")
TOWER_WORDS = ("vis", "tower", "projector", "mlp1")


@dataclass(frozen=True, kw_only=True)
class Packing:
    """One format: `bits` to an element, and a scale to a group of `group` elements of a row (None: the whole row).

    `group_rows` rows share a scale, `zero_bits` is a group's zero point; `matrix_bytes` and `column_bytes` are what a
    whole matrix and each of its inputs add.
    """

    bits: float
    group: int | None = None
    group_rows: int = 1
    scale_bytes: int = 0
    zero_bits: float = 0
    matrix_bytes: int = 0
    column_bytes: int = 0

    def size(self, rows: int, columns: int) -> int:
        """Return the bytes of one matrix with `columns` inputs: elements, scales and zero points."""
        groups = -(-columns // (self.group or columns)) * -(-rows // self.group_rows)
        bits = rows * columns * self.bits + groups * (8 * self.scale_bytes + self.zero_bits)
        return round(bits / 8) + columns * self.column_bytes + self.matrix_bytes


@dataclass(frozen=True, kw_only=True)
class Storage:
    """A checkpoint's formats: the first of `rules` whose targets name a module packs it, unless it is `ignored`.

    `element_bytes` is the size of what is not packed; `parts` limits packing to these parts of the model.
    """

    element_bytes: int
    quantization: Quantization | None = None
    rules: tuple[tuple[tuple[str, ...], Packing], ...] = ()
    ignored: tuple[str, ...] = ()
    parts: frozenset[str] | None = None

    def packing(self, part: str, module: str) -> Packing | None:
        """Return the format of a linear module, None when it is stored unquantised."""
        if not self.rules or (self.parts is not None and part not in self.parts):
            return None
        if any(matches(pattern, module) for pattern in self.ignored) or (
            part == "vision-linear" and self._spares_towers
        ):
            return None
        found = (rule for targets, rule in self.rules if any(matches(target, module) for target in targets))
        return next(found, None)

    @property
    def _spares_towers(self) -> bool:
        """Say whether towers are left alone: always by weight-only methods, else where a pattern speaks of one."""
        weight_only = self.quantization is not None and self.quantization.method in WEIGHT_ONLY
        return weight_only or any(word in pattern for pattern in self.ignored for word in TOWER_WORDS)


def matches(pattern: str, module: str) -> bool:
    """Say whether a checkpoint's pattern names a module: a class, a regular expression, a wildcard or a part of a name.

    Families name the same module differently, so a pattern also fits from the layer's number on.
    """
    if pattern in ("Linear", "*"):
        return True
    if pattern.startswith("re:"):
        try:
            return any(re.match(pattern[3:], name) for name in (module, f"language_model.{module}"))
        except re.error:
            return False
    if "*" in pattern:
        return fnmatch.fnmatchcase(module, pattern) or fnmatch.fnmatchcase(module, f"{pattern}.*")
    return f".{pattern}." in f".{module}." or f".{module}." in f".{pattern}."
