"""GPUs are shared out without overlap, the fewest per instance that the model needs, whatever their order."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rackhand.errors import RackhandError
from rackhand.layout.simple import Layout, lay_out
from rackhand.plan import PlannedGpu
from tests.surveys import CONFIG, address, uuid, wishes

SIZES_MIB = {"L4": 23_034, "RTX 4090": 24_564, "H100": 81_559, "unknown": 0}
CARDS = st.lists(st.sampled_from(sorted(SIZES_MIB)), min_size=1, max_size=16)


def gpus(*cards: str) -> list[PlannedGpu]:
    return [
        PlannedGpu(address=address(slot), card=card, memory_mib=SIZES_MIB[card], uuid=uuid(slot))
        for slot, card in enumerate(cards)
    ]


def slots(layout: Layout) -> list[tuple[int, ...]]:
    return [instance.gpus for instance in layout.instances]


def test_a_model_that_fits_one_gpu_gets_one_instance_per_gpu() -> None:
    layout = lay_out("gpu-1", gpus("RTX 4090", "RTX 4090"), wishes(15))
    assert slots(layout) == [(0,), (1,)]
    assert [instance.name for instance in layout.instances] == ["llama-0", "llama-1"]
    assert [instance.port for instance in layout.instances] == [8000, 8001]
    assert {instance.max_model_len for instance in layout.instances} == {8192}


def test_a_model_that_does_not_fit_one_gpu_spans_the_fewest_that_hold_it() -> None:
    assert slots(lay_out("gpu-1", gpus(*["RTX 4090"] * 4), wishes(30))) == [(0, 1), (2, 3)]
    assert slots(lay_out("gpu-1", gpus(*["RTX 4090"] * 4), wishes(60))) == [(0, 1, 2, 3)]


def test_the_reason_names_the_numbers() -> None:
    reason = lay_out("gpu-1", gpus("RTX 4090"), wishes(15)).reason
    assert reason == "RTX 4090: fits 1 GPU (15,360 MiB weights, 1,024 MiB for 8,192 tokens, 22,598 MiB allowed)"


def test_an_odd_gpu_is_left_over_rather_than_shared() -> None:
    assert slots(lay_out("gpu-1", gpus(*["RTX 4090"] * 3), wishes(30))) == [(0, 1)]


def test_an_instance_never_spans_different_cards() -> None:
    found = gpus("RTX 4090", "H100", "RTX 4090", "H100")
    for layout in (lay_out("gpu-1", found, wishes(15)), lay_out("gpu-1", found, wishes(30))):
        assert all(len({found[position].card for position in slot}) == 1 for slot in slots(layout))
    assert slots(layout) == [(0, 2), (1,), (3,)]


def test_cards_that_are_too_small_stay_out_and_the_reason_says_so() -> None:
    layout = lay_out("gpu-1", gpus("L4", "H100"), wishes(30))
    assert slots(layout) == [(1,)]
    assert "on 1 x L4 each GPU needs 33,280 MiB" in layout.reason


def test_a_tensor_parallel_size_must_divide_the_attention_heads() -> None:
    odd = {**CONFIG, "num_attention_heads": 30, "num_key_value_heads": 30, "hidden_size": 3840}
    with pytest.raises(RackhandError) as caught:
        lay_out("gpu-1", gpus(*["RTX 4090"] * 4), wishes(60, odd, serve_tensor_parallel_size=4))
    assert caught.value.code == "tensor-parallel"
    assert "30 attention heads" in caught.value.what


def test_a_tensor_parallel_size_beyond_the_host_is_refused() -> None:
    with pytest.raises(RackhandError) as caught:
        lay_out("gpu-1", gpus("H100"), wishes(serve_tensor_parallel_size=2))
    assert caught.value.code == "tensor-parallel"


def test_a_wished_tensor_parallel_size_is_taken_though_fewer_would_do() -> None:
    assert slots(lay_out("gpu-1", gpus(*["H100"] * 4), wishes(serve_tensor_parallel_size=4))) == [(0, 1, 2, 3)]


def test_fewer_instances_than_possible_take_the_first_gpus() -> None:
    assert slots(lay_out("gpu-1", gpus(*["H100"] * 4), wishes(serve_instances=2))) == [(0,), (1,)]


def test_more_instances_than_the_gpus_carry_are_refused_with_the_number_that_works() -> None:
    with pytest.raises(RackhandError) as caught:
        lay_out("gpu-1", gpus("H100", "H100"), wishes(serve_instances=3))
    assert caught.value.code == "too-many-instances"
    assert caught.value.next_step == "set serve_instances to at most 2"


def test_a_model_of_unknown_size_gets_one_gpu_per_instance_and_the_reason_admits_it() -> None:
    layout = lay_out("gpu-1", gpus("H100", "H100"), wishes(0, {}))
    assert slots(layout) == [(0,), (1,)]
    assert "not known" in layout.reason
    assert {instance.max_model_len for instance in layout.instances} == {None}


@pytest.mark.parametrize("gib", [19.5, 20, 20.4])
def test_the_context_that_a_refusal_offers_works(gib: float) -> None:
    with pytest.raises(RackhandError) as caught:
        lay_out("gpu-1", gpus("RTX 4090"), wishes(gib, serve_max_model_len=100_000))
    assert caught.value.code == "does-not-fit"
    (offered,) = (int(word) for word in caught.value.next_step.split() if word.isdigit())
    assert slots(lay_out("gpu-1", gpus("RTX 4090"), wishes(gib, serve_max_model_len=offered))) == [(0,)]


def test_a_model_that_no_context_saves_asks_for_other_hardware() -> None:
    with pytest.raises(RackhandError) as caught:
        lay_out("gpu-1", gpus("L4"), wishes(30))
    assert caught.value.what == "on 1 x L4 each GPU needs 33,280 MiB for 8,192 tokens and 21,191 MiB are allowed"
    assert caught.value.where == "gpu-1"
    assert caught.value.next_step == "use larger GPUs or a quantised model"


@given(CARDS, st.sampled_from([0, 5, 15, 30, 60, 130]))
def test_no_gpu_serves_twice_and_no_two_instances_share_a_port(cards: list[str], gib: float) -> None:
    try:
        layout = lay_out("gpu-1", gpus(*cards), wishes(gib))
    except RackhandError:
        return
    used = [position for slot in slots(layout) for position in slot]
    assert len(used) == len(set(used))
    assert set(used) <= set(range(len(cards)))
    for values in ([instance.port for instance in layout.instances], [instance.name for instance in layout.instances]):
        assert len(values) == len(set(values))


@given(CARDS, st.sampled_from([5, 15, 30]), st.randoms(use_true_random=False))
def test_the_order_in_which_gpus_are_listed_changes_nothing_but_positions(
    cards: list[str], gib: float, chance: random.Random
) -> None:
    listed = gpus(*cards)
    shuffled = chance.sample(listed, len(listed))
    assert served(listed, gib) == served(shuffled, gib)


def served(listed: list[PlannedGpu], gib: float) -> object:
    try:
        layout = lay_out("gpu-1", listed, wishes(gib))
    except RackhandError as error:
        return error.code
    return sorted(tuple(listed[position].address for position in slot) for slot in slots(layout))
