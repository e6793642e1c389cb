"""The context and the dtype that vLLM derives from a config.json."""

from collections.abc import Iterator, Mapping
from typing import Any

from rackhand.models.reading import Reader

# vLLM takes the smallest of those that are set (transformers_utils/model_arch_config_convertor.py in 0.26.0).
LENGTHS = (
    "max_position_embeddings",
    "n_positions",
    "max_seq_len",
    "seq_length",
    "max_target_positions",
    "max_sequence_length",
    "max_seq_length",
    "seq_len",
)
NO_LENGTH = 2048  # vLLM's own assumption when none of them is set
UNSCALED = ("su", "longrope", "llama3")
DTYPES = {"half": "float16", "float": "float32", "float64": "float32"}


def max_context(text: Reader, kind: str) -> int:
    """Return the longest context in tokens that vLLM takes without being overruled; raises RackhandError.

    It follows `_get_and_verify_max_len` (config/model.py in 0.26.0): a rope factor stretches the length, yarn stretches
    the original one; Gemma 3 states the stretched one.
    """
    set_keys = [key for key in LENGTHS if key in text]
    length = text.size("model_max_length", default=min((text.size(key) for key in set_keys), default=NO_LENGTH))
    if "gemma3" in kind:
        return length
    factor: float = 1
    for rope in _ropes(text):
        name = str(rope.get("rope_type", rope.get("type", "default")))
        if name in UNSCALED:
            continue
        factor = _number(text, rope.get("factor"), default=factor)
        if name == "yarn":
            length = int(_number(text, rope.get("original_max_position_embeddings"), default=length))
    return int(length * factor)


def _ropes(text: Reader) -> Iterator[Mapping[str, Any]]:
    """Yield the tables that describe rotary positions: one, or one per kind of layer."""
    for key in ("rope_scaling", "rope_parameters"):
        values = text.table(key).values
        nested = [value for value in values.values() if isinstance(value, Mapping)]
        if nested or values:
            yield from nested or [values]
            return


def _number(text: Reader, value: Any, default: float) -> float:
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1 << 40:
        raise text.nonsense("rope_scaling")
    return value


def dtype(top: Reader, text: Reader) -> str:
    """Return what `dtype: auto` gives on a card with bfloat16: the file's, or bfloat16 for float32 and for nothing."""
    vision = top.table("vision_config")
    for level in (top, text, vision):
        for key in ("dtype", "torch_dtype"):
            if said := level.text(key).removeprefix("torch."):
                known = DTYPES.get(said, said)
                return known if known == "float16" else "bfloat16"
    return "bfloat16"
