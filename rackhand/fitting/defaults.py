"""vLLM's own defaults of a batch, which depend on the card and the version."""

from rackhand.catalog import engine
from rackhand.fitting.terms import Device


def batch_defaults(version: str, device: Device, context: int) -> tuple[int, int]:
    """Return (max_num_seqs, max_num_batched_tokens) as `vllm serve` chooses them when nothing is asked for.

    The batch is never larger than all sequences at full length (get_batch_defaults in vllm/engine/arg_utils.py).
    """
    sequences, tokens = engine(version).batch_defaults(device.card, device.total_mib, device.capability)
    tokens = min(tokens, sequences * context)
    return min(sequences, tokens), tokens
