"""The towers of multimodal models: what turns pictures or sound into tokens, and what fits it to the decoder."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from rackhand.errors import RackhandError
from rackhand.models import vision
from rackhand.models.matrices import Matrix
from rackhand.models.reading import Reader

CONFIGS = {"vision_config": "vision", "vit_config": "vision", "audio_config": "audio", "speech_config": "audio"}
Tower = Callable[[Reader, int], Iterator[Matrix]]

# By the outer model type: how the vision tower is built and what its configuration class fills in.
KNOWN: dict[str, tuple[Tower, dict[str, Any]]] = {
    "qwen2_vl": (vision.qwen2, {"depth": 32, "embed_dim": 1280, "mlp_ratio": 4, "spatial_merge_size": 2}),
    "qwen2_5_vl": (vision.qwen2_5, {"depth": 32, "hidden_size": 1280, "intermediate_size": 3420}),
    "qwen3_vl": (vision.qwen3, {"depth": 27, "hidden_size": 1152, "intermediate_size": 4304}),
    "gemma3": (vision.gemma3, vision.SIGLIP_DEFAULTS),
    "llava": (vision.llava, {}),
    "mistral3": (vision.mistral3, vision.PIXTRAL_DEFAULTS),
    "internvl_chat": (vision.intern, {}),
    "glm4v": (vision.glm4, {"depth": 24, "hidden_size": 1536, "intermediate_size": 13696}),
    "llama4": (vision.llama4, vision.LLAMA4_DEFAULTS),
}
SAME = {
    "glm4v_moe": "glm4v",
    "internvl": "internvl_chat",
    "qwen3_vl_moe": "qwen3_vl",
    "qwen3_5": "qwen3_vl",
    "qwen3_5_moe": "qwen3_vl",
}


@dataclass(frozen=True, kw_only=True)
class Towers:
    """What a model has beside its decoder; `source` says when it was only estimated."""

    kinds: tuple[str, ...] = ()
    matrices: tuple[Matrix, ...] = ()
    source: str = ""


def read(top: Reader, hidden: int) -> Towers:
    """Read the towers of a config.json whose decoder is `hidden` wide; raises RackhandError for nonsense in it."""
    outer = top.text("model_type")
    keys = [key for key in CONFIGS if top.table(key).values]
    if not keys:
        return Towers()
    kinds = tuple(dict.fromkeys(CONFIGS[key] for key in keys))
    matrices: list[Matrix] = []
    guessed = []
    for key in keys:
        tower, defaults = KNOWN.get(SAME.get(outer, outer), (None, {})) if CONFIGS[key] == "vision" else (None, {})
        mine = Reader({**top.values, key: {**defaults, **_set(top.table(key))}}, top.where)
        try:
            matrices += tower(mine, hidden) if tower else vision.usual(mine.table(key), hidden, CONFIGS[key])
            guessed += [] if tower else [CONFIGS[key]]
        except RackhandError as error:
            if error.code != "model-unsupported":
                raise
            guessed.append(f"{CONFIGS[key]} (not counted)")
    source = f"estimated tower: {', '.join(guessed)}" if guessed else ""
    return Towers(kinds=kinds, matrices=tuple(matrices), source=source)


def _set(level: Reader) -> dict[str, Any]:
    return {key: value for key, value in level.values.items() if value is not None}
