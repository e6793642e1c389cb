"""What stands in each layer of a decoder: its attention or recurrent state, its window, and what comes behind."""

from collections.abc import Iterator
from enum import StrEnum
from typing import NamedTuple

from rackhand.models.families import Family
from rackhand.models.reading import LAYERS, MOST_LAYERS, Reader


class Mixer(StrEnum):
    """What mixes tokens in a layer."""

    ATTENTION = "attention"
    LATENT = "latent"
    DELTA = "gated delta net"
    MAMBA1 = "mamba 1"
    MAMBA2 = "mamba 2"
    NONE = "none"


class Layer(NamedTuple):
    """One layer; `window` in tokens, `full` says that it is global in a model with windows."""

    number: int
    mixer: Mixer
    window: int | None
    dense: bool
    sparse: bool
    full: bool = True


SLIDING = ("sliding_attention", "sliding_window", "sliding")
STATES = ("linear_attention", "mamba", "mamba2", "linear")
KINDS = {"s": "sliding_attention", "f": "full_attention", "l": "linear_attention"}
# Letters of Nemotron-H's hybrid_override_pattern: what the layer is, alone.
NEMOTRON = {
    "M": (Mixer.MAMBA2, False),
    "*": (Mixer.ATTENTION, False),
    "-": (Mixer.NONE, False),
    "E": (Mixer.NONE, True),
}

NEMOTRON_WORDS = {
    "mamba": "M",
    "linear_attention": "M",
    "attention": "*",
    "full_attention": "*",
    "mlp": "-",
    "moe": "E",
}


def layers(text: Reader, family: Family, experts_on: frozenset[int], kind: str) -> list[Layer]:
    """Return the layers of a decoder of model type `kind`; raises RackhandError."""
    if alone := letters(text, kind):
        return list(_nemotron(alone, text))
    count = text.size(*LAYERS, most=MOST_LAYERS)
    kinds = layer_kinds(text, family, count)
    found = []
    for index, window in enumerate(windows(text, family, kinds, count)):
        sparse = index in experts_on
        mixer = _mixer(text, kinds[index] if kinds else "", kind, index)
        # Gemma 4 runs its experts beside the perceptron, not instead of it.
        found.append(Layer(index, mixer, window, not sparse or kind == "gemma4_text", sparse, window is None))
    return found


def letters(text: Reader, kind: str) -> str:
    """Return Nemotron-H's layers as letters, which newer files spell out; empty for other models."""
    if kind != "nemotron_h" or "hybrid_override_pattern" in text:
        return text.text("hybrid_override_pattern")
    return "".join(NEMOTRON_WORDS.get(word, "?") for word in text.words("layers_block_type"))


def _nemotron(alone: str, text: Reader) -> Iterator[Layer]:
    for index, letter in enumerate(alone):
        if letter not in NEMOTRON:
            raise text.nonsense("hybrid_override_pattern")
        mixer, sparse = NEMOTRON[letter]
        yield Layer(index, mixer, None, letter == "-", sparse)


def _mixer(text: Reader, kind: str, model_type: str, index: int) -> Mixer:
    if "attn_layer_period" in text:
        period, offset = text.size("attn_layer_period"), text.count("attn_layer_offset")
        return Mixer.ATTENTION if index % period == offset else Mixer.MAMBA1
    if kind in STATES:
        return Mixer.DELTA if "linear_num_value_heads" in text else Mixer.MAMBA2
    return Mixer.LATENT if "kv_lora_rank" in text else Mixer.ATTENTION


def windows(text: Reader, family: Family, kinds: tuple[str, ...], count: int) -> tuple[int | None, ...]:
    """Return each layer's window or chunk in tokens, None for full attention; raises RackhandError.

    vLLM gives a layer the window when its model class asks for it, and gives it to all layers when the kinds do not
    alternate (engine/arg_utils.py, layers/attention/attention.py in 0.26.0).
    """
    if "attention_chunk_size" in text and ("no_rope_layers" in text or "no_rope_layer_interval" in text):
        return tuple(_chunks(text, count))
    size = text.count("sliding_window")
    if not size or not family.sliding or not text.flag("use_sliding_window", default=True):
        return (None,) * count
    if len(set(kinds)) < 2:
        return (size,) * count
    return tuple(size if kind in SLIDING else None for kind in kinds)


def _chunks(text: Reader, count: int) -> Iterator[int | None]:
    """Yield Llama 4's chunks: layers with rotary positions see one, the others everything."""
    size, listed = text.size("attention_chunk_size"), text.numbers("no_rope_layers")
    every = text.size("no_rope_layer_interval", default=4)
    if listed and len(listed) < count:
        raise text.nonsense("no_rope_layers")
    for index in range(count):
        rotary = bool(listed[index]) if listed else (index + 1) % every != 0
        yield size if rotary else None


def layer_kinds(text: Reader, family: Family, count: int) -> tuple[str, ...]:
    """Return the kind of every layer, empty where nothing tells them apart; raises RackhandError."""
    key = "layer_types" if "layer_types" in text else "layers_block_type"
    kinds = text.words(key)
    if kinds and len(kinds) < count:
        raise text.nonsense(key)
    pattern = _pattern(text, family)
    if kinds or not pattern:
        return kinds[:count]
    return tuple(KINDS[pattern[index % len(pattern)]] for index in range(count))


def _pattern(text: Reader, family: Family) -> str:
    """Return the repeating order of kinds; the keys for its length stand in older files of Gemma 3 and Cohere 2."""
    written = text.get("sliding_window_pattern")
    if isinstance(written, str):
        return "".join("s" if letter == "L" else "f" for letter in written)
    if not family.pattern:
        return "s" * (text.size("sliding_window_pattern", most=MOST_LAYERS) - 1) + "f" if written else ""
    length = text.size(
        "sliding_window_pattern", "full_attention_interval", default=len(family.pattern), most=MOST_LAYERS
    )
    return family.pattern[0] * (length - 1) + "f"
