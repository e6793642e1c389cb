"""Layers that keep one fixed state instead of a cache: gated delta nets (Qwen3-Next), Mamba 1 and 2.

Sizes follow vLLM 0.26.0: model_executor/layers/mamba/mamba_utils.py and the mixers beside it.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from rackhand.models.matrices import Matrix
from rackhand.models.plan import Mixer
from rackhand.models.reading import Reader
from rackhand.models.spec import Attention, LayerGroup

ELEMENT_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A recurrent layer in elements: its width `inner`, what the convolution sees, the `state` that it carries."""

    hidden: int
    inner: int
    conv: int
    kernel: int
    heads: int
    state: int
    projected: int = 0
    rank: int = 0
    conv_bias: bool = False
    bias: bool = False


def shape(text: Reader, mixer: Mixer) -> Shape:
    """Read the shape of a recurrent layer; raises RackhandError."""
    return {Mixer.DELTA: _delta_shape, Mixer.MAMBA2: _mamba2_shape, Mixer.MAMBA1: _mamba1_shape}[mixer](text)


def group(text: Reader, mixer: Mixer, element_bytes: int) -> LayerGroup:
    """Describe what one layer keeps per sequence: the convolution's last inputs, and the state in its own precision."""
    mine = shape(text, mixer)
    kind = text.text("mamba_ssm_dtype", text.text("mamba_ssm_cache_dtype"))
    precise = "hybrid_override_pattern" in text or text.text("model_type") == "nemotron_h"
    state_bytes = ELEMENT_BYTES.get(kind, 4 if precise else element_bytes)
    kept = mine.conv * (mine.kernel - 1) * element_bytes + mine.state * state_bytes
    return LayerGroup(attention=Attention.STATE, layers=1, state_bytes=kept)


def matrices(text: Reader, mixer: Mixer, prefix: str) -> Iterator[Matrix]:
    """Yield the weights of one recurrent layer."""
    mine = shape(text, mixer)
    yield from {Mixer.DELTA: _delta, Mixer.MAMBA2: _mamba2, Mixer.MAMBA1: _mamba1}[mixer](mine, prefix)


def _delta_shape(text: Reader) -> Shape:
    keys = text.size("linear_num_key_heads") * text.size("linear_key_head_dim")
    heads, size = text.size("linear_num_value_heads"), text.size("linear_value_head_dim")
    return Shape(
        hidden=text.size("hidden_size"),
        inner=heads * size,
        conv=2 * keys + heads * size,
        kernel=text.size("linear_conv_kernel_dim", default=4),
        heads=heads,
        state=heads * size * text.size("linear_key_head_dim"),
        rank=size,
    )


def _delta(mine: Shape, prefix: str) -> Iterator[Matrix]:
    yield Matrix("state", f"{prefix}.in_proj_qkvz", mine.conv + mine.inner, mine.hidden)
    yield Matrix("state", f"{prefix}.in_proj_ba", 2 * mine.heads, mine.hidden)
    yield Matrix("state-vectors", f"{prefix}.conv1d", mine.conv, mine.kernel)
    yield Matrix("state-vectors", f"{prefix}.dt_bias", mine.heads)
    yield Matrix("state-vectors", f"{prefix}.A_log", mine.heads, fixed_bytes=4)
    yield Matrix("norms", f"{prefix}.norm", mine.rank)
    yield Matrix("state", f"{prefix}.out_proj", mine.hidden, mine.inner)


def _mamba2_shape(text: Reader) -> Shape:
    hidden = text.size("hidden_size")
    heads = text.size("mamba_n_heads", "mamba_num_heads")
    size = text.size("mamba_d_head", "mamba_head_dim", default=2 * hidden // heads or 1)
    states = text.size("mamba_d_state", "ssm_state_size")
    groups = text.size("mamba_n_groups", "n_groups", default=1)
    inner = heads * size
    return Shape(
        hidden=hidden,
        inner=inner,
        conv=inner + 2 * groups * states,
        kernel=text.size("mamba_d_conv", "conv_kernel", default=4),
        heads=heads,
        state=inner * states,
        projected=2 * inner + 2 * groups * states + heads,
        conv_bias=text.flag("mamba_conv_bias", text.flag("use_conv_bias", default=True)),
        bias=text.flag("mamba_proj_bias", text.flag("use_bias")),
    )


def _mamba2(mine: Shape, prefix: str) -> Iterator[Matrix]:
    yield Matrix("state", f"{prefix}.in_proj", mine.projected, mine.hidden)
    yield Matrix("state-vectors", f"{prefix}.conv1d", mine.conv, mine.kernel + mine.conv_bias)
    yield Matrix("state-vectors", f"{prefix}.dt_bias_and_D", 2 * mine.heads)
    yield Matrix("state-vectors", f"{prefix}.A_log", mine.heads, fixed_bytes=4)
    yield Matrix("state-vectors", f"{prefix}.norm", mine.inner)
    yield Matrix("state", f"{prefix}.out_proj", mine.hidden, mine.inner)
    if mine.bias:
        yield Matrix("state-vectors", f"{prefix}.in_proj.bias", mine.projected)
        yield Matrix("norms", f"{prefix}.out_proj.bias", mine.hidden)


def _mamba1_shape(text: Reader) -> Shape:
    hidden = text.size("hidden_size")
    inner = hidden * text.size("mamba_expand", default=2)
    states = text.size("mamba_d_state", default=16)
    return Shape(
        hidden=hidden,
        inner=inner,
        conv=inner,
        kernel=text.size("mamba_d_conv", default=4),
        heads=states,
        state=inner * states,
        rank=text.size("mamba_dt_rank", default=-(-hidden // 16)),
        conv_bias=text.flag("mamba_conv_bias", default=True),
        bias=text.flag("mamba_proj_bias"),
    )


def _mamba1(mine: Shape, prefix: str) -> Iterator[Matrix]:
    yield Matrix("state", f"{prefix}.in_proj", 2 * mine.inner, mine.hidden)
    yield Matrix("state-vectors", f"{prefix}.conv1d", mine.inner, mine.kernel + mine.conv_bias)
    yield Matrix("state", f"{prefix}.x_proj", mine.rank + 2 * mine.heads, mine.inner)
    yield Matrix("state", f"{prefix}.dt_proj", mine.inner, mine.rank)
    yield Matrix("state-vectors", f"{prefix}.dt_proj.bias_and_D", 2 * mine.inner)
    yield Matrix("state-vectors", f"{prefix}.A_log", mine.inner, mine.heads, fixed_bytes=4)
    yield Matrix("norms", f"{prefix}.norms", mine.rank + 2 * mine.heads)
    yield Matrix("state", f"{prefix}.out_proj", mine.hidden, mine.inner)
    if mine.bias:
        yield Matrix("state-vectors", f"{prefix}.in_proj.bias", 2 * mine.inner)
        yield Matrix("norms", f"{prefix}.out_proj.bias", mine.hidden)
