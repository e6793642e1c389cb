"""vLLM's own defaults of a batch, which depend on the card."""

from rackhand.fitting.terms import Device

LARGE_MIB = 70 * 1024


def batch_defaults(version: str, device: Device, context: int) -> tuple[int, int]:
    """Return (max_num_seqs, max_num_batched_tokens) as `vllm serve` chooses them when nothing is asked for.

    Source: vllm/engine/arg_utils.py, get_batch_defaults (0.26.0): cards from 70 GiB on, but not the A100, take larger
    batches; the batch is never larger than all sequences at full length.
    """
    large = device.total_mib >= LARGE_MIB and "a100" not in device.card.lower()
    sequences, tokens = (1024, 8192) if large else (256, 2048)
    tokens = min(tokens, sequences * context)
    return min(sequences, tokens), tokens
