"""The weights of vision towers, family by family, as their model classes build them."""

from collections.abc import Iterator

from rackhand.models.matrices import Matrix
from rackhand.models.reading import Reader

SIGLIP_DEFAULTS = {
    "hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27, "image_size": 896, "patch_size": 14,
}  # fmt: skip
PIXTRAL_DEFAULTS = {
    "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "patch_size": 16, "image_size": 1024,
}  # fmt: skip
LLAMA4_DEFAULTS = {
    "hidden_size": 1408, "intermediate_size": 5632, "num_hidden_layers": 34, "image_size": 336, "patch_size": 14,
    "projector_input_dim": 4096, "projector_output_dim": 4096, "vision_output_dim": 4096,
}  # fmt: skip
CHANNELS = 3


def linear(name: str, rows: int, columns: int, *, bias: bool, copies: int = 1) -> Iterator[Matrix]:
    """Yield a linear layer of a tower."""
    yield Matrix("vision-linear", name, rows, columns, copies)
    if bias:
        yield Matrix("vision", f"{name}.bias", rows, copies=copies)


def usual(level: Reader, hidden: int, kind: str) -> Iterator[Matrix]:
    """Yield what most towers have, for one that is not known: blocks of attention and perceptron, and a projector."""
    width = level.size("hidden_size", "embed_dim", "d_model", "width")
    blocks = level.size("num_hidden_layers", "depth", "encoder_layers", "num_layers", "layers")
    inner = level.size("intermediate_size", "encoder_ffn_dim", default=4 * width)
    part = "audio" if kind == "audio" else "vision"
    yield Matrix(part, f"{kind}.blocks", width, 4 * width + 2 * inner, blocks)
    yield Matrix(part, f"{kind}.projector", hidden, width + hidden)


def _encoder(
    level: Reader, *, position: int, pre: int, post: int, patch_bias: bool, qkv_bias: bool = True
) -> Iterator[Matrix]:
    """Yield a plain vision transformer with layer norms and biases; `pre` and `post` count norms around the blocks."""
    width, blocks = level.size("hidden_size"), level.size("num_hidden_layers")
    inner, patch = level.size("intermediate_size"), _side(level, "patch_size", 14)
    yield Matrix("vision", "vision.patch_embedding", width, CHANNELS * patch * patch + patch_bias)
    yield Matrix("vision", "vision.position_embedding", position, width)
    yield Matrix("vision-whole", "vision.norms", 2 * width, pre + post + 2 * blocks)
    yield from linear("vision.qkv", 3 * width, width, bias=qkv_bias, copies=blocks)
    yield from linear("vision.out_proj", width, width, bias=True, copies=blocks)
    yield from linear("vision.fc1", inner, width, bias=True, copies=blocks)
    yield from linear("vision.fc2", width, inner, bias=True, copies=blocks)


def _squares(level: Reader) -> int:
    """Return the patches of one picture."""
    return max(1, _side(level, "image_size", 336) // _side(level, "patch_size", 14)) ** 2


def _side(level: Reader, key: str, usual: int) -> int:
    """Return a size of a picture in pixels, which some files write once for each side."""
    if not isinstance(level.get(key), list | tuple):
        return level.size(key, default=usual)
    sides = level.numbers(key)
    if not sides or not 0 < sides[0] < 1 << 20:
        raise level.nonsense(key)
    return sides[0]


def qwen2(top: Reader, hidden: int) -> Iterator[Matrix]:
    """Yield the tower of Qwen2-VL."""
    level = top.table("vision_config")
    width, blocks = level.size("embed_dim"), level.size("depth")
    inner = width * level.size("mlp_ratio")
    yield from _qwen_patches(level, width, bias=False)
    yield Matrix("vision-whole", "visual.norms", 2 * width, 2 * blocks + 1)
    yield from linear("visual.qkv", 3 * width, width, bias=True, copies=blocks)
    yield from linear("visual.proj", width, width, bias=True, copies=blocks)
    yield from linear("visual.fc1", inner, width, bias=True, copies=blocks)
    yield from linear("visual.fc2", width, inner, bias=True, copies=blocks)
    out = level.size("hidden_size", default=hidden)
    yield from _merger("visual.merger", width * level.size("spatial_merge_size") ** 2, out)


def qwen2_5(top: Reader, hidden: int) -> Iterator[Matrix]:
    """Yield the tower of Qwen2.5-VL: RMS norms and gated perceptrons."""
    level = top.table("vision_config")
    width, blocks, inner = level.size("hidden_size"), level.size("depth"), level.size("intermediate_size")
    yield from _qwen_patches(level, width, bias=False)
    yield Matrix("vision-whole", "visual.norms", width, 2 * blocks + 1)
    yield from linear("visual.qkv", 3 * width, width, bias=True, copies=blocks)
    yield from linear("visual.proj", width, width, bias=True, copies=blocks)
    yield from linear("visual.gate_up", 2 * inner, width, bias=True, copies=blocks)
    yield from linear("visual.down_proj", width, inner, bias=True, copies=blocks)
    merged = width * level.size("spatial_merge_size", default=2) ** 2
    yield from _merger("visual.merger", merged, level.size("out_hidden_size", default=hidden))


def qwen3(top: Reader, hidden: int) -> Iterator[Matrix]:
    """Yield the tower of Qwen3-VL, which feeds several layers of the decoder."""
    level = top.table("vision_config")
    width, blocks, inner = level.size("hidden_size"), level.size("depth"), level.size("intermediate_size")
    merged, out = (
        width * level.size("spatial_merge_size", default=2) ** 2,
        level.size("out_hidden_size", default=hidden),
    )
    yield from _qwen_patches(level, width, bias=True)
    yield Matrix("vision", "visual.pos_embed", level.size("num_position_embeddings", default=2304), width)
    yield Matrix("vision-whole", "visual.norms", 2 * width, 2 * blocks + 1)
    yield from linear("visual.qkv", 3 * width, width, bias=True, copies=blocks)
    yield from linear("visual.proj", width, width, bias=True, copies=blocks)
    yield from linear("visual.fc1", inner, width, bias=True, copies=blocks)
    yield from linear("visual.fc2", width, inner, bias=True, copies=blocks)
    yield from _merger("visual.merger", merged, out)
    for number in level.numbers("deepstack_visual_indexes"):
        yield Matrix("vision-whole", f"visual.deepstack.{number}.norm", 2 * merged)
        yield from _merger(f"visual.deepstack.{number}", merged, out)


def glm4(top: Reader, hidden: int) -> Iterator[Matrix]:
    """Yield the tower of GLM-4.1V and 4.5V: RMS norms, gated perceptrons as wide as the decoder, a convolution."""
    level = top.table("vision_config")
    width, blocks, out = level.size("hidden_size"), level.size("depth"), level.size("out_hidden_size", default=hidden)
    inner, merge = level.size("intermediate_size"), level.size("spatial_merge_size", default=2)
    yield from _qwen_patches(level, width, bias=True)
    yield Matrix("vision", "visual.position_embedding", _squares(level), width)
    yield Matrix("vision-whole", "visual.norms", width, 2 * blocks + 2)
    yield from linear("visual.attention", 4 * width, width, bias=False, copies=blocks)
    yield from linear("visual.mlp", 3 * out, width, bias=False, copies=blocks)
    yield Matrix("vision", "visual.downsample", out, width * merge * merge + 1)
    yield Matrix("vision-whole", "visual.merger.norm", 2 * out)
    yield from linear("visual.merger.proj", out, out, bias=False)
    yield from linear("visual.merger.mlp", 3 * inner, out, bias=False)


def _qwen_patches(level: Reader, width: int, *, bias: bool) -> Iterator[Matrix]:
    patch, frames = level.size("patch_size", default=14), level.size("temporal_patch_size", default=2)
    channels = level.size("in_channels", "in_chans", default=CHANNELS)
    yield Matrix("vision", "visual.patch_embed", width, channels * frames * patch * patch + bias)


def _merger(name: str, merged: int, out: int) -> Iterator[Matrix]:
    yield from linear(f"{name}.fc1", merged, merged, bias=True)
    yield from linear(f"{name}.fc2", out, merged, bias=True)


def gemma3(top: Reader, hidden: int) -> Iterator[Matrix]:
    """Yield the SigLIP tower of Gemma 3 and its projection."""
    level = top.table("vision_config")
    yield from _encoder(level, position=_squares(level), pre=0, post=1, patch_bias=True)
    yield Matrix("vision-whole", "multi_modal_projector", level.size("hidden_size"), hidden + 1)


def llava(top: Reader, hidden: int) -> Iterator[Matrix]:
    """Yield the tower of a Llava model: CLIP, or Pixtral's."""
    level = top.table("vision_config")
    bias = top.flag("multimodal_projector_bias", default=True)
    if level.text("model_type") == "pixtral":
        filled = Reader({**PIXTRAL_DEFAULTS, **level.values}, top.where)
        yield from _pixtral(filled)
        yield from _projector(filled.size("hidden_size"), hidden, bias=bias)
        return
    clip = level.text("model_type", "clip_vision_model") == "clip_vision_model"
    width = level.size("hidden_size")
    yield from _encoder(level, position=_squares(level) + clip, pre=int(clip), post=1, patch_bias=not clip)
    if clip:
        yield Matrix("vision", "vision.class_embedding", width)
    yield from _projector(width, hidden, bias=bias)


def mistral3(top: Reader, hidden: int) -> Iterator[Matrix]:
    """Yield Pixtral's tower with the patch merger of Mistral Small 3.1 and later."""
    level = top.table("vision_config")
    width, merge = level.size("hidden_size"), top.size("spatial_merge_size", default=2)
    yield from _pixtral(level)
    yield Matrix("vision-whole", "multi_modal_projector.norm", width)
    yield from linear("multi_modal_projector.patch_merger", width, width * merge * merge, bias=False)
    yield from _projector(width, hidden, bias=top.flag("multimodal_projector_bias"))


def _pixtral(level: Reader) -> Iterator[Matrix]:
    width, blocks, inner = level.size("hidden_size"), level.size("num_hidden_layers"), level.size("intermediate_size")
    patch = level.size("patch_size")
    yield Matrix("vision", "vision.patch_conv", width, CHANNELS * patch * patch)
    yield Matrix("vision-whole", "vision.norms", width, 2 * blocks + 1)
    yield from linear("vision.attention", 4 * width, width, bias=False, copies=blocks)
    yield from linear("vision.feed_forward", 3 * inner, width, bias=False, copies=blocks)


def _projector(width: int, hidden: int, *, bias: bool) -> Iterator[Matrix]:
    yield from linear("multi_modal_projector.linear_1", hidden, width, bias=bias)
    yield from linear("multi_modal_projector.linear_2", hidden, hidden, bias=bias)


def intern(top: Reader, hidden: int) -> Iterator[Matrix]:
    """Yield InternViT with its layer scales, and the projector over merged patches."""
    level = top.table("vision_config")
    width, blocks = level.size("hidden_size"), level.size("num_hidden_layers")
    yield from _encoder(
        level,
        position=_squares(level) + 1,
        pre=0,
        post=0,
        patch_bias=True,
        qkv_bias=level.flag("qkv_bias", level.flag("attention_bias")),
    )
    yield Matrix("vision-whole", "vision.class_and_scales", width, 1 + 2 * blocks)
    if level.text("norm_type") == "rms_norm":
        yield Matrix("vision-whole", "vision.norms_without_bias", -2 * width, blocks)
    if level.flag("qk_normalization", level.flag("use_qk_norm")):
        yield Matrix("vision-whole", "vision.qk_norms", 2 * width, blocks)
    merged = width * 4
    yield Matrix("vision-whole", "mlp1.norm", 2 * merged)
    yield from linear("mlp1.linear_1", hidden, merged, bias=True)
    yield from linear("mlp1.linear_2", hidden, hidden, bias=True)


def llama4(top: Reader, hidden: int) -> Iterator[Matrix]:
    """Yield the tower of Llama 4; vLLM leaves it unquantised."""
    level = top.table("vision_config")
    width, inner = level.size("hidden_size"), level.size("intermediate_size")
    into, out = level.size("projector_input_dim"), level.size("projector_output_dim")
    for matrix in _encoder(level, position=_squares(level) + 1, pre=1, post=1, patch_bias=False):
        yield matrix._replace(part="vision")
    yield Matrix("vision", "vision.class_embedding", width)
    yield Matrix("vision", "vision.adapter.fc1", into, inner)
    yield Matrix("vision", "vision.adapter.fc2", out, into)
    yield Matrix("vision", "multi_modal_projector", hidden, level.size("vision_output_dim"))
