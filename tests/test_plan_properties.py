"""What holds of every plan and every refusal, whatever the host, the model and the wishes."""

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some
from pydantic import ValidationError

from rackhand import nearest, planner
from rackhand.arrangement import MEMORY_CODES, Arrangement, arrange, device_of
from rackhand.plan import Instance, Plan, Refusal
from rackhand.seen import gpus
from rackhand.settings import Settings
from rackhand.survey import Survey
from rackhand.wishes import Wishes
from tests.hosts_at_work import HOSTS, KINDS, host, spec, wished

GIB = 1024
NAMES = tuple(KINDS)
MODELS = (
    "llama-3.2-3b-instruct-awq", "llama-3.1-8b-instruct", "llama-2-7b-chat-gptq", "mixtral-8x7b-instruct-v0.1",
    "qwen2.5-vl-7b-instruct", "qwen3-32b", "qwen3-32b-fp8", "qwen3-30b-a3b", "gpt-oss-20b", "gemma-3-27b-it",
    "qwen3-next-80b-a3b-instruct", "deepseek-v2-lite-chat", "llama-3.3-70b-instruct", "deepseek-v3-0324",
)  # fmt: skip
COUNTS = (1, 2, 3, 4, 8)
PRESETS = ("balanced", "throughput", "latency", "long-context", "cost", "debug")
# A batch of a given size: vLLM's own grows with the card, and with it what is taken off the cache.
BATCH = {"max-num-seqs": 64, "max-num-batched-tokens": 2048}
OPTIONS: tuple[dict[str, Any], ...] = (
    {}, {"kv-cache-dtype": "fp8"}, {"quantization": "fp8"}, {"enforce-eager": True}, {"max-num-seqs": 16},
    {"max-num-batched-tokens": 512}, {"dtype": "half"}, {"enable-expert-parallel": True}, {"swap-space": 4},
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Box:
    """A host to build: its cards, how they are joined, and MiB that others hold of its first card."""

    cards: tuple[str, ...]
    nodes: int
    switched: bool
    paired: bool
    held_mib: int

    def survey(self, larger_mib: int = 0) -> Survey:
        """Return what the host says; with larger cards of the same name where that is asked."""
        pairs = {slot: (slot ^ 1,) for slot in range(len(self.cards)) if slot ^ 1 < len(self.cards)}
        return host(
            *self.cards,
            nodes=min(self.nodes, len(self.cards)),
            peers=pairs if self.paired and not self.switched else None,
            switched=self.switched,
            gpus={slot: self._memory(slot, larger_mib) for slot in range(len(self.cards))},
        )

    def _memory(self, slot: int, larger_mib: int) -> dict[str, Any]:
        kind, held = KINDS[self.cards[slot]], self.held_mib if slot == 0 else 0
        total = kind.memory_mib + larger_mib
        free = max(0, total - kind.reserved_mib - held)
        return {"memory_mib": total, "free_mib": free}


boxes = some.builds(
    Box,
    cards=some.one_of(
        some.builds(lambda card, count: (card,) * count, some.sampled_from(NAMES), some.sampled_from(COUNTS)),
        some.lists(some.sampled_from(NAMES), min_size=1, max_size=4).map(tuple),
    ),
    nodes=some.sampled_from((1, 2)),
    switched=some.booleans(),
    paired=some.booleans(),
    held_mib=some.sampled_from((0, 0, 0, 3 * GIB, 20 * GIB)),
)
plain = some.fixed_dictionaries(
    {},
    optional={
        "serve_preset": some.sampled_from(PRESETS),
        "serve_max_model_len": some.sampled_from((16, 4096, 32_768, 131_072, 1_000_000)),
        "serve_gpu_memory_utilization": some.sampled_from((0.5, 0.8, 0.95)),
        "serve_tensor_parallel_size": some.sampled_from((1, 2, 3, 4, 8)),
        "serve_pipeline_parallel_size": some.sampled_from((1, 2, 4)),
        "serve_allow_fp8": some.booleans(),
        "serve_allow_fp8_kv": some.booleans(),
    },
)
anything = some.builds(
    lambda one, other: {**one, **other},
    plain,
    some.fixed_dictionaries(
        {},
        optional={
            "serve_max_model_len": some.just("auto"),
            "serve_instances": some.sampled_from((1, 2, 9)),
            "serve_gpu_shares": some.sampled_from(((0.45, 0.45), (0.3,), (0.5, 0.6))),
            "serve_options": some.sampled_from(OPTIONS),
            "serve_port": some.sampled_from((8000, 65_533)),
            "engine_version": some.sampled_from(("0.24.0", "0.26.0", "0.32.0", "0.33.0", "0.99.0")),
        },
    ),
)
models = some.sampled_from(MODELS)


def asked(model: str, wishes: Mapping[str, Any]) -> Wishes | None:
    """Return what is wished; None where the settings refuse it before any host is asked."""
    try:
        return wished(model, **wishes)
    except ValidationError:
        return None


def told(plan: Plan) -> tuple[int, int]:
    """Count instances and the tokens of their KV caches."""
    forecasts = [instance.forecast for instance in plan.instances if instance.forecast]
    return len(plan.instances), sum(forecast.kv_tokens for forecast in forecasts)


@given(box=boxes, model=models, wishes=anything)
def test_every_host_gets_a_plan_or_reasons_with_a_code_a_number_and_a_next_step(
    box: Box, model: str, wishes: dict[str, Any]
) -> None:
    asks = asked(model, wishes)
    if asks is None:
        return
    made = planner.plan("gpu-1", box.survey(), asks)
    assert isinstance(made, Plan | Refusal)
    if isinstance(made, Plan):
        assert made.instances
        assert made.words
    else:
        assert made.reasons
        for reason in made.reasons:
            assert re.fullmatch(r"[a-z0-9-]+", reason.code)
            assert re.search(r"\d", reason.what), reason
            assert reason.next_step
            assert reason.where == "gpu-1"


@given(box=boxes, model=models, wishes=anything)
def test_what_a_plan_charges_never_exceeds_its_share_nor_the_shares_the_memory(
    box: Box, model: str, wishes: dict[str, Any]
) -> None:
    asks = asked(model, wishes)
    made = planner.plan("gpu-1", box.survey(), asks) if asks else None
    if not isinstance(made, Plan):
        return
    for instance in made.instances:
        _holds_its_bill(instance)
    for position, gpu in enumerate(made.gpus):
        device = device_of(gpu)
        free = device.total_mib if device.free_mib is None else device.free_mib
        taken = [each.forecast.allowed_mib for each in made.instances if position in each.gpus and each.forecast]
        assert sum(taken) <= free


def _holds_its_bill(instance: Instance) -> None:
    forecast = instance.forecast
    assert forecast is not None
    assert forecast.fits
    assert forecast.kv_tokens >= forecast.context
    charged = sum(term.mib for term in forecast.terms if term.name != "other_processes")
    assert charged <= forecast.allowed_mib + 0.01
    assert all(term.mib >= 0 for term in forecast.terms)


@given(box=boxes, model=models, wishes=plain, larger_mib=some.integers(1, 64 * GIB))
def test_larger_cards_never_carry_less(box: Box, model: str, wishes: dict[str, Any], larger_mib: int) -> None:
    """Instances are never fewer; where the user chose the sizes, their caches hold at least as much."""
    asks = wished(model, **{**wishes, "serve_options": BATCH})
    before = planner.plan("gpu-1", box.survey(), asks)
    if not isinstance(before, Plan):
        return
    after = planner.plan("gpu-1", box.survey(larger_mib), asks)
    assert isinstance(after, Plan), after.reasons
    if asks.settings.serve_preset != "long-context":
        assert told(after)[0] >= told(before)[0]
    sizes = {"serve_tensor_parallel_size", "serve_pipeline_parallel_size"}
    if sizes <= wishes.keys():
        assert told(after)[1] >= told(before)[1]


@given(box=boxes, model=models, wishes=plain, seed=some.integers(0, 1000))
def test_the_order_in_which_a_host_names_its_gpus_changes_nothing(
    box: Box, model: str, wishes: dict[str, Any], seed: int
) -> None:
    seen, asks = box.survey(), wished(model, **wishes)
    bus, cards = list(seen.pci), list(seen.nvml.gpus)
    random.Random(seed).shuffle(bus)
    random.Random(seed + 1).shuffle(cards)
    other = seen.model_copy(update={"pci": tuple(bus), "nvml": seen.nvml.model_copy(update={"gpus": tuple(cards)})})
    assert planner.plan("gpu-1", other, asks) == planner.plan("gpu-1", seen, asks)


@given(box=boxes, model=models, wishes=plain, seed=some.integers(0, 1000))
def test_the_order_of_gpus_changes_nothing_but_their_positions(
    box: Box, model: str, wishes: dict[str, Any], seed: int
) -> None:
    found, asks = list(gpus(box.survey())), wished(model, **wishes)
    mixed = random.Random(seed).sample(found, len(found))
    one, other = (arrange("gpu-1", each, spec(model), asks.settings) for each in (found, mixed))
    if isinstance(one, Arrangement) and isinstance(other, Arrangement):
        placed = [
            [(tuple(each[position] for position in item.gpus), replace(item, gpus=())) for item in made.instances]
            for each, made in ((found, one), (mixed, other))
        ]
        assert placed[0] == placed[1]
        assert (one.reasons, one.left_out, one.warnings) == (other.reasons, other.left_out, other.warnings)
    else:
        assert one == other


@given(box=boxes, model=models, wishes=plain)
def test_every_change_that_a_refusal_names_brings_a_plan(box: Box, model: str, wishes: dict[str, Any]) -> None:
    seen, asks = box.survey(), wished(model, **wishes)
    made = planner.plan("gpu-1", seen, asks)
    if isinstance(made, Refusal):
        _keeps_its_word(made, seen, asks)


def test_no_share_is_offered_that_the_settings_refuse() -> None:
    """Of a card of which 20 GiB are held a share of 0.45 is left, and settings begin at 0.5."""
    box = Box(cards=("A100-40",), nodes=1, switched=False, paired=False, held_mib=20 * GIB)
    made = planner.plan("gpu-1", box.survey(), wished("llama-3.2-3b-instruct-awq"))
    assert isinstance(made, Refusal)
    assert [reason.next_step for reason in made.reasons] == ["end what else holds memory of the GPUs"]


@pytest.mark.parametrize("name", HOSTS)
def test_every_change_that_is_named_to_hosts_at_work_brings_a_plan(name: str) -> None:
    for model in ("llama-3.1-8b-instruct", "qwen3-32b", "llama-3.3-70b-instruct"):
        made = planner.plan("gpu-1", HOSTS[name], wished(model))
        if isinstance(made, Refusal):
            _keeps_its_word(made, HOSTS[name], wished(model))


def _keeps_its_word(made: Refusal, seen: Survey, asks: Wishes) -> None:
    """Apply every change: what a deploy can set goes through the planner itself."""
    assert asks.spec is not None
    short = [reason for reason in made.reasons if reason.code in MEMORY_CODES]
    found = gpus(seen)
    if not short or {reason.code for reason in made.reasons} & planner.SENSELESS:
        return
    changes = tuple(nearest.nearest(found, asks.spec, asks.settings))
    assert {reason.next_step for reason in short} == {", or ".join(near.words for near in changes) or nearest.NOTHING}
    for near in changes:
        assert isinstance(arrange("gpu-1", near.gpus, asks.spec, near.settings), Arrangement)
        if near.gpus == found and len(short) == len(made.reasons):
            settings = Settings(**near.settings.model_dump())
            assert isinstance(planner.plan("gpu-1", seen, replace(asks, settings=settings)), Plan)
