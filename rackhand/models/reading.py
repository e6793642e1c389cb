"""Read numbers out of a config.json that anybody may have written: right types and sizes, or one clear refusal."""

import re
from collections.abc import Mapping
from typing import Any

from rackhand.errors import RackhandError

LARGEST = 1 << 40  # above any size in a config.json; keeps sums printable
LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
MOST_LAYERS = 4096  # they are gone through one by one


class Reader:
    """One level of a config.json; keys that are absent or null fall back to the family's, then the call's defaults."""

    def __init__(self, values: Mapping[str, Any], where: str, defaults: Mapping[str, Any] | None = None) -> None:
        self.values = values
        self.where = where
        self.defaults = defaults or {}

    def __contains__(self, key: str) -> bool:
        return self.get(key) is not None

    def get(self, key: str) -> Any:
        value = self.values.get(key)
        return self.defaults.get(key) if value is None else value

    def size(self, *keys: str, default: int | None = None, most: int = LARGEST) -> int:
        """Return the first of `keys` that is set, a positive whole number up to `most`.

        Raises RackhandError `model-unsupported` when none is set and there is no default, `model-config` for nonsense.
        """
        for key in keys:
            if key in self:
                return self._whole(key, 1, most)
        if default is None:
            raise missing(self.where, keys[0])
        return default

    def count(self, *keys: str, default: int = 0) -> int:
        """Return the first of `keys` that is set, zero or more; raises RackhandError `model-config`."""
        return next((self._whole(key, 0, LARGEST) for key in keys if key in self), default)

    def flag(self, key: str, default: bool = False) -> bool:
        """Return a truth value; raises RackhandError `model-config`."""
        value = self.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.nonsense(key)
        return value

    def text(self, key: str, default: str = "") -> str:
        """Return a string; raises RackhandError `model-config`."""
        value = self.get(key)
        if value is None:
            return default
        if not isinstance(value, str):
            raise self.nonsense(key)
        return value

    def table(self, key: str, defaults: Mapping[str, Any] | None = None) -> "Reader":
        """Return a nested object, empty when it is not there; raises RackhandError `model-config`."""
        value = self.get(key)
        if value is not None and not isinstance(value, Mapping):
            raise self.nonsense(key)
        return Reader(value or {}, self.where, defaults)

    def words(self, key: str) -> tuple[str, ...]:
        """Return a list of strings; raises RackhandError `model-config`."""
        return tuple(self._members(key, str))

    def numbers(self, key: str) -> tuple[int, ...]:
        """Return a list of whole numbers; raises RackhandError `model-config`."""
        return tuple(self._members(key, int))

    def nonsense(self, key: str) -> RackhandError:
        """Say that a key's value makes no sense, without repeating more of it than fits a line."""
        shown = re.sub(r"\s+", " ", repr(self.get(key)))[:60]
        return RackhandError(
            "model-config", f"config.json says {key} = {shown}", self.where, "correct the file or download it again"
        )

    def _whole(self, key: str, least: int, most: int) -> int:
        value = self.get(key)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise self.nonsense(key)
        return value

    def _members(self, key: str, kind: type) -> list[Any]:
        value = self.get(key)
        if value is None:
            return []
        if not isinstance(value, list | tuple) or any(
            not isinstance(item, kind) or isinstance(item, bool) for item in value
        ):
            raise self.nonsense(key)
        return list(value)


def missing(where: str, key: str) -> RackhandError:
    """Refuse a model whose config.json lacks what its memory depends on."""
    what = f"config.json has no {key}: not a decoder whose memory rackhand can compute"
    return RackhandError("model-unsupported", what, where, "name a decoder-only model, or its full config.json")
