"""Which layers see a window of the context only, as vLLM 0.26 decides it."""

from rackhand.models.families import Family
from rackhand.models.reading import Reader

SLIDING = ("sliding_attention", "sliding_window", "sliding")
KINDS = {"s": "sliding_attention", "f": "full_attention"}


def windows(text: Reader, family: Family, layers: int) -> tuple[int | None, ...]:
    """Return each layer's window in tokens, None for full attention; raises RackhandError.

    vLLM gives a layer the window when its model class asks for it, and all layers when the kinds do not alternate
    (engine/arg_utils.py, layers/attention/attention.py).
    """
    size = text.count("sliding_window")
    if not size or not family.sliding or not text.flag("use_sliding_window", default=True):
        return (None,) * layers
    kinds = layer_kinds(text, family, layers)
    if len(set(kinds)) < 2:
        return (size,) * layers
    return tuple(size if kind in SLIDING else None for kind in kinds)


def layer_kinds(text: Reader, family: Family, layers: int) -> tuple[str, ...]:
    """Return the attention kind of every layer, empty where nothing tells them apart; raises RackhandError."""
    kinds = text.words("layer_types")
    if kinds and len(kinds) < layers:
        raise text.nonsense("layer_types")
    if kinds or not family.pattern:
        return kinds[:layers]
    return tuple(KINDS[family.pattern[layer % len(family.pattern)]] for layer in range(layers))
