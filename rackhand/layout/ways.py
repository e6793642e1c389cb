"""Into how many ranks one instance of a model can be divided, and which way is better. Pure.

Sources: vLLM's ModelConfig.verify_with_parallel_config (attention heads), its QKV layer (key-value heads are divided or
copied), `divide` in distributed/utils.py (intermediate size) and verify_group_size_divides_partition there (groups of
quantised weights), SupportsPP (pipelines), and VocabParallelEmbedding, which divides the padded vocabulary.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from rackhand.catalog.pipelines import has_pipeline
from rackhand.fitting.weights import VOCAB_PADDING
from rackhand.layout.terms import LayoutWish
from rackhand.layout.topology import Link
from rackhand.models.spec import ModelSpec

# vLLM pads what these methods would cut through.
PADDED = ("mxfp4", "gpt_oss_mxfp4")
# A pipeline crosses between GPUs once per stage and token, tensor parallelism twice per layer: so pipelines come before
# tensor parallelism over a NUMA boundary. Within a node tensor parallelism comes first even over PCIe: it shortens
# every single answer, and every architecture has it.
PLACES = {Link.NVLINK: 1, Link.NODE: 2, Link.HOST: 4}
ALONE, PIPELINE = 0, 3


@dataclass(frozen=True, kw_only=True)
class Way:
    """One way to divide an instance: `tensor` GPUs within `link`, and `pipeline` such sets one behind the other."""

    tensor: int
    pipeline: int
    link: Link

    @property
    def ranks(self) -> int:
        return self.tensor * self.pipeline

    @property
    def preference(self) -> tuple[int, int, int]:
        """Order the ways that allow equally many replicas: by link, then the fewest stages, then the fewest GPUs."""
        single = ALONE if self.pipeline == 1 else PIPELINE
        return PLACES.get(self.link, single), self.pipeline, self.ranks


def ways(spec: ModelSpec | None, gpus: int, wish: LayoutWish) -> Iterator[Way]:
    """Yield every way to divide the model over at most `gpus` GPUs that the wish allows."""
    for tensor in (wish.tensor_parallel_size,) if wish.tensor_parallel_size else range(1, gpus + 1):
        if hindrance(spec, tensor, whole_experts=wish.expert_parallel):
            continue
        wished, most = wish.pipeline_parallel_size, min(gpus // tensor, most_stages(spec, gpus))
        links = (Link.NONE,) if tensor == 1 else tuple(PLACES)
        for pipeline in range(1, most + 1):
            if wished in (None, pipeline):
                yield from (Way(tensor=tensor, pipeline=pipeline, link=link) for link in links)


def most_stages(spec: ModelSpec | None, otherwise: int) -> int:
    """Return the most pipeline stages that a model can have, `otherwise` where nobody knows it."""
    if spec is None:
        return otherwise
    return spec.layers if has_pipeline(spec.architecture) else 1


def hindrance(spec: ModelSpec | None, tensor: int, *, whole_experts: bool = False) -> str:
    """Say what of the model `tensor` GPUs cannot share evenly; empty when they can, or when nobody knows.

    With `whole_experts` (expert parallel) each expert stays on one GPU, and its size is no hindrance.
    """
    if spec is None:
        return ""
    if spec.heads % tensor:
        return f"{spec.heads} attention heads"
    if spec.kv_heads and spec.kv_heads % tensor and tensor % spec.kv_heads:
        return f"{spec.kv_heads} key-value heads"
    if -(-spec.vocab_size // VOCAB_PADDING) * VOCAB_PADDING % tensor:
        return f"a vocabulary of {spec.vocab_size:,} entries, padded to a multiple of {VOCAB_PADDING}"
    if spec.experts and whole_experts:
        return ""
    size = spec.experts.intermediate_size if spec.experts else spec.intermediate_size
    if size % tensor:
        return f"an intermediate size of {size:,}"
    stored = spec.quantization
    group = stored.group_size if stored and stored.method not in PADDED else None
    if tensor > 1 and group and group > 0 and size // tensor % group:
        return f"an intermediate size of {size:,} in groups of {group}"
    return ""
