"""Model specs by hand, for tests of arithmetic: the sizes of public models, without their files."""

from rackhand.fitting.terms import Device
from rackhand.models.spec import Attention, Experts, LayerGroup, ModelSpec, Part, Split, Stage

H200 = Device(card="H200 SXM 141GB", capability=(9, 0), total_mib=143_155)
L4 = Device(card="L4", capability=(8, 9), total_mib=22_563)
T4 = Device(card="T4", capability=(7, 5), total_mib=14_910)


def dense(
    name: str,
    *,
    layers: int,
    hidden: int,
    intermediate: int,
    vocab: int,
    heads: int,
    kv_heads: int,
    context: int,
    groups: tuple[LayerGroup, ...] | None = None,
    experts: Experts | None = None,
) -> ModelSpec:
    """Return a decoder without biases whose head size is hidden / heads, stored in 16 bits."""
    size = hidden // heads
    attention = layers * hidden * (2 * heads + 2 * kv_heads) * size
    mlp = layers * 3 * hidden * intermediate
    full = LayerGroup(attention=Attention.FULL, layers=layers, kv_heads=kv_heads, key_size=size, value_size=size)
    return ModelSpec(
        name=name,
        architecture="MixtralForCausalLM" if experts else "LlamaForCausalLM",
        dtype="bfloat16",
        layers=layers,
        hidden_size=hidden,
        intermediate_size=intermediate,
        vocab_size=vocab,
        heads=heads,
        kv_heads=kv_heads,
        head_size=size,
        max_context=context,
        groups=groups or (full,),
        parts=(
            Part(name="embeddings", elements=vocab * hidden, bytes=2 * vocab * hidden, stage=Stage.FIRST),
            Part(name="lm_head", elements=vocab * hidden, bytes=2 * vocab * hidden, stage=Stage.LAST),
            Part(name="attention", elements=attention, bytes=2 * attention, linear=True),
            Part(name="mlp", elements=mlp, bytes=2 * mlp, linear=True),
            Part(name="norms", elements=2 * layers * hidden, bytes=4 * layers * hidden, split=Split.WHOLE),
        ),
        weights_source="computed",
        experts=experts,
    )


LLAMA_8B = dense(
    "llama-3-8b", layers=32, hidden=4096, intermediate=14336, vocab=128256, heads=32, kv_heads=8, context=8192
)
LLAMA_13B = dense(
    "llama-2-13b", layers=40, hidden=5120, intermediate=13824, vocab=32000, heads=40, kv_heads=40, context=4096
)
LLAMA_70B = dense(
    "llama-3.1-70b", layers=80, hidden=8192, intermediate=28672, vocab=128256, heads=64, kv_heads=8, context=131072
)
