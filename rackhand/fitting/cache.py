"""The KV cache of one rank: pages, pools, blocks, tokens. Follows vllm/v1/core/kv_cache_utils.py (0.26.0 read)."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from rackhand.catalog import engine
from rackhand.fitting.activation import newer_runner
from rackhand.fitting.terms import Serving
from rackhand.models.spec import Attention, LayerGroup, ModelSpec

BLOCK = 16
ELEMENT_BYTES = {"float32": 4, "float": 4}
SHORT = ("fp8", "int8")
# vLLM keeps the latent of an MLA layer in blocks of 64 tokens on the kernels of Hopper and Blackwell.
MLA_BLOCK = 64


@dataclass(frozen=True)
class Kind:
    """Layers of one rank that share a block table: `page` is the bytes of one block of one layer."""

    group: LayerGroup
    layers: int
    block: int
    page: int

    @property
    def endless(self) -> bool:
        """Whether every token of a sequence is kept."""
        return self.group.attention in (Attention.FULL, Attention.MLA)

    def blocks(self, context: int, in_flight: int) -> int:
        """Return the blocks that one sequence of `context` tokens can hold at once.

        A window keeps its last tokens and all that are in flight, plus one block because it may start inside one.
        """
        window = self.group.window or 0
        match self.group.attention:
            case Attention.STATE:
                return 1
            case Attention.SLIDING:
                return -(-min(window - 1 + in_flight, context) // self.block) + 1
            case Attention.CHUNKED:
                return -(-min(window + in_flight, context) // self.block)
            case _:
                return -(-context // self.block)


@dataclass(frozen=True)
class Pool:
    """How one rank's cache is cut: `block_bytes` is one block over all layers that share a pool of blocks."""

    kinds: tuple[tuple[Kind, int], ...]
    block_bytes: int
    in_flight: int

    def blocks_per_sequence(self, context: int) -> int:
        return max(1, sum(tables * kind.blocks(context, self.in_flight) for kind, tables in self.kinds))

    def count(self, available: float) -> int:
        """Return the blocks that `available` bytes hold."""
        return max(0, int(available)) // self.block_bytes if self.block_bytes else 0

    def longest(self, available: float, limit: int) -> int:
        """Return the longest context up to `limit` tokens of which one sequence fits; 0 when none does."""
        blocks, low, high = self.count(available), 0, limit
        if blocks >= self.blocks_per_sequence(limit):
            return limit
        if len(self.kinds) == 1 and self.kinds[0][0].endless:
            kind, tables = self.kinds[0]
            return blocks // tables * kind.block
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self.blocks_per_sequence(middle) <= blocks else (low, middle - 1)
        return low


@lru_cache(maxsize=1024)
def pool(spec: ModelSpec, serving: Serving, layers: int) -> Pool:
    """Cut the cache of a rank that holds `layers` of the model's layers."""
    kinds = _same_pages([_kind(spec, group, serving, layers) for group in spec.groups if group.layers])
    if not kinds:
        return Pool((), 0, 0)
    endless = all(kind.endless for kind in kinds)
    if len(kinds) == 1 or endless:
        tables = ((kinds[0], 1),)
        return Pool(tables, sum(kind.page * kind.layers for kind in kinds), _in_flight(spec, serving))
    size = _group_size([kind.layers for kind in kinds])
    page = max(kind.page for kind in kinds)
    return Pool(tuple((kind, -(-kind.layers // size)) for kind in kinds), page * size, _in_flight(spec, serving))


def _group_size(layers: Sequence[int]) -> int:
    """Return how many layers share a block table: the rarest kind's, or the most frequent's when they are close."""
    return max(layers) if max(layers) < min(layers) * 1.5 else min(layers)


def _kind(spec: ModelSpec, group: LayerGroup, serving: Serving, layers: int) -> Kind:
    held = max(1, -(-group.layers * layers // spec.layers))
    if group.attention is Attention.STATE:
        return Kind(group, held, BLOCK, max(1, group.state_bytes // serving.tensor_parallel_size))
    mla = group.attention is Attention.MLA
    block = serving.block_size or (MLA_BLOCK if mla else BLOCK)
    heads = 1 if mla else max(1, group.kv_heads // serving.tensor_parallel_size)
    token = heads * (group.key_size + group.value_size) * element_bytes(spec, serving)
    return Kind(group, held, block, block * token)


def _same_pages(kinds: list[Kind]) -> list[Kind]:
    """Give all kinds pages of one size, as blocks of different pages cannot share a pool.

    Smaller pages take more tokens; attention beside a recurrent state takes blocks as large as the state.
    """
    states = [kind for kind in kinds if kind.group.attention is Attention.STATE]
    others = [kind for kind in kinds if kind.group.attention is not Attention.STATE]
    if not others or (len(others) == 1 and not states):
        return kinds
    endless = all(kind.endless for kind in others)
    if endless and not states:
        return kinds
    page = max(kind.page for kind in [*others, *states])
    grown = []
    for kind in others:
        token = kind.page // kind.block
        block = -(-page // token // BLOCK) * BLOCK if states else kind.block * max(1, page // kind.page)
        grown.append(Kind(kind.group, kind.layers, block, block * token))
    page = max(kind.page for kind in grown)
    return [*grown, *(Kind(kind.group, kind.layers, kind.block, page) for kind in states)]


def element_bytes(spec: ModelSpec, serving: Serving) -> int:
    """Return the bytes of one cached element: the cache's type, where "auto" is the checkpoint's or the model's."""
    kind = serving.kv_cache_dtype
    if kind == "auto":
        stored = spec.quantization.kv_cache_bits if spec.quantization else None
        return stored // 8 if stored else ELEMENT_BYTES.get(serving.dtype, 2)
    return 1 if kind.startswith(SHORT) else ELEMENT_BYTES.get(kind, 2)


def _in_flight(spec: ModelSpec, serving: Serving) -> int:
    """Return the tokens that may be scheduled and not settled."""
    v2 = newer_runner(spec, serving.version)
    batches = engine(serving.version).batches_in_flight(serving.pipeline_parallel_size, v2=v2)
    return batches * serving.max_num_batched_tokens
