"""What else would work where there is no plan, each really planned: less asked of the GPUs, more of them, others."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

from rackhand.arrangement import Arrangement, arrange
from rackhand.commands import paper
from rackhand.commands.answer import Alternative
from rackhand.commands.answering import Posed
from rackhand.hardware import describe
from rackhand.nearest import Nearest, nearest

COUNTS = (1, 2, 4, 8)
# Cards that can be had today, the smallest first; the first that carry the model are offered.
CARDS = ("L4", "RTX-4090", "L40S", "A100-PCIe-80GB", "RTX-PRO-6000", "H100-SXM-80GB", "H200-SXM", "B200", "B300-SXM6")
MOST_CARDS = 3
WORDS = {"kv-cache-dtype": "an fp8 KV cache", "quantization": "fp8 weights"}
OPTIONS = {
    "serve_max_model_len": ("--context", "{}"),
    "serve_gpu_memory_utilization": ("--set", "gpu_memory_utilization={}"),
    "serve_tensor_parallel_size": ("--set", "tensor_parallel_size={}"),
    "serve_pipeline_parallel_size": ("--set", "pipeline_parallel_size={}"),
}


def alternatives(posed: Posed) -> tuple[Alternative, ...]:
    """Return the nearest plans that work: other settings, or more of the same cards.

    The same cards with nothing else on them are no answer to who asks about cards that are in use.
    """
    found = nearest(posed.gpus, posed.spec, posed.settings)
    return tuple(_near(posed, each) for each in found if each.gpus == posed.gpus or len(each.gpus) != len(posed.gpus))


def other_cards(posed: Posed) -> tuple[Alternative, ...]:
    """Return the smallest set of each of a few other cards that carries the model."""
    return tuple(islice(_other_cards(posed), MOST_CARDS))


def _near(posed: Posed, found: Nearest) -> Alternative:
    changes = _changes(posed, found)
    words = tuple(word for name, value in changes.items() for word in _typed(posed, name, value))
    if found.gpus != posed.gpus:
        card = found.gpus[0].card.replace(" ", "-")
        return _offer(_cards(found), ("--gpu", f"{len(found.gpus)}x{card}", *words), {}, found.arrangement)
    return _offer(", ".join(_what(posed, changes)) or found.words, words, changes, found.arrangement)


def _changes(posed: Posed, found: Nearest) -> dict[str, Any]:
    before = posed.settings.model_dump()
    return {name: value for name, value in found.settings.model_dump().items() if value != before[name]}


def _what(posed: Posed, changes: dict[str, Any]) -> Iterator[str]:
    """Name what changes in a few words."""
    before = posed.settings.serve_options
    for name, value in changes.items():
        match name:
            case "serve_options":
                yield " and ".join(WORDS.get(option, option) for option in value if option not in before)
            case "serve_max_model_len":
                yield f"a context of {value:,} tokens"
            case "serve_gpu_memory_utilization":
                yield f"{value:.0%} of the memory"
            case _:
                yield f"{value if value != 'auto' else 'any'} {name.removeprefix('serve_').replace('_', ' ')}"


def _typed(posed: Posed, name: str, value: Any) -> Iterator[str]:
    """Yield the words that ask for a setting of a deploy on the command line of `rackhand fit`."""
    if name == "serve_options":
        for option, text in value.items():
            if option in posed.settings.serve_options:
                continue
            yield from ("--set", f"{option.replace('-', '_')}={text}")
    elif name in OPTIONS:
        option, form = OPTIONS[name]
        yield from (option, form.format(value))


def _cards(found: Nearest) -> str:
    return describe(gpu.card for gpu in found.gpus)


def _other_cards(posed: Posed) -> Iterator[Alternative]:
    """Yield the smallest set of each other card that carries the model."""
    own, free_mib = {gpu.card for gpu in posed.gpus if not gpu.mig}, posed.gpus[0].free_mib
    for card in CARDS:
        if paper.gpus(card)[0].card in own:
            continue
        for count in COUNTS:
            text = f"{count}x{card}"
            gpus = paper.gpus(text, free_mib)
            found = arrange("", gpus, posed.spec, posed.settings)
            if isinstance(found, Arrangement):
                yield _offer(describe(gpu.card for gpu in gpus), ("--gpu", text), {}, found)
                break


def _offer(what: str, arguments: tuple[str, ...], changes: dict[str, Any], found: Arrangement) -> Alternative:
    forecast = found.instances[0].forecast
    return Alternative(
        what=what,
        arguments=arguments,
        settings=changes,
        instances=len(found.instances),
        kv_tokens=forecast.kv_tokens if forecast else 0,
        max_context=forecast.max_context if forecast else 0,
    )
