"""Instances over the GPUs of a host: replicas first, then along the best links, and every refusal with its numbers."""

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rackhand.fitting.terms import Forecast
from rackhand.layout.lay_out import lay_out
from rackhand.layout.terms import Assess, Layout, LayoutWish
from rackhand.layout.ways import hindrance
from rackhand.models.spec import ModelSpec
from rackhand.outcome import Problem
from rackhand.plan import PlannedGpu
from tests.gpu_hosts import CARDS, addresses, assessing, gpu, pairs, single, slices, switched, two_nodes
from tests.specs import LLAMA_8B, LLAMA_13B, LLAMA_70B
from tests.surveys import address

WISH = LayoutWish(name="llama", port=8000)
Sizes = list[tuple[tuple[int, ...], int, int]]


def answer(
    gpus: Sequence[PlannedGpu], spec: ModelSpec, context: int | None = 4096, **wished: Any
) -> Layout | tuple[Problem, ...]:
    wish = replace(WISH, **wished)
    return lay_out("gpu-1", gpus, spec, wish, assessing(spec, context))


def laid(gpus: Sequence[PlannedGpu], spec: ModelSpec, context: int | None = 4096, **wished: Any) -> Layout:
    layout = answer(gpus, spec, context, **wished)
    assert isinstance(layout, Layout), layout
    return layout


def refused(
    gpus: Sequence[PlannedGpu], spec: ModelSpec, context: int | None = 4096, **wished: Any
) -> tuple[Problem, ...]:
    problems = answer(gpus, spec, context, **wished)
    assert isinstance(problems, tuple), problems
    return problems


def sizes(layout: Layout) -> Sizes:
    """Return GPUs, tensor and pipeline parallel size of every instance."""
    return [(each.gpus, each.tensor_parallel_size, each.pipeline_parallel_size) for each in layout.instances]


HOSTS: dict[str, tuple[list[PlannedGpu], ModelSpec, Sizes]] = {
    "one card": (single("L4"), LLAMA_8B, [((0,), 1, 1)]),
    "two cards that each hold the model": (single("A10", "A10"), LLAMA_8B, [((0,), 1, 1), ((1,), 1, 1)]),
    "two cards of one node that hold it together": (single("RTX 4090", "RTX 4090"), LLAMA_13B, [((0, 1), 2, 1)]),
    "two cards of two nodes that hold it together": (two_nodes("RTX 4090", 2), LLAMA_13B, [((0, 1), 1, 2)]),
    "bridged pairs that each hold it": (pairs(), LLAMA_70B, [((0, 1), 2, 1), ((2, 3), 2, 1)]),
    "bridged pairs that hold it together": (pairs("L40S"), LLAMA_70B, [((0, 1, 2, 3), 2, 2)]),
    "bridged pairs of one node": (pairs("L40S", nodes=False), LLAMA_70B, [((0, 1, 2, 3), 2, 2)]),
    "four cards of one node": (single(*["L40S"] * 4), LLAMA_70B, [((0, 1, 2, 3), 4, 1)]),
    "four cards of two nodes": (two_nodes("L40S", 4), LLAMA_70B, [((0, 1, 2, 3), 2, 2)]),
    "eight switched cards, a small model": (switched(), LLAMA_8B, [((slot,), 1, 1) for slot in range(8)]),
    "eight switched cards, a large model": (
        switched(),
        LLAMA_70B,
        [((first, first + 1), 2, 1) for first in (0, 2, 4, 6)],
    ),
    "three cards": (single(*["RTX 4090"] * 3), replace(LLAMA_13B, heads=41, kv_heads=41), [((0, 1), 1, 2)]),
    "three cards that hold it together": (single(*["A10"] * 3), LLAMA_13B, [((0, 1), 2, 1)]),
    "six cards": (single(*["L40S"] * 6), LLAMA_70B, [((0, 1, 2, 3), 4, 1)]),
    # Three pipelines serve more than two tensor parallel pairs, so the third crosses the sockets.
    "six smaller cards of two nodes": (
        two_nodes("RTX 4090", 6),
        LLAMA_13B,
        [((0, 1), 1, 2), ((2, 5), 1, 2), ((3, 4), 1, 2)],
    ),
    "two kinds of cards": (
        single("RTX 4090", "A100 80GB", "RTX 4090", "A100 80GB"),
        LLAMA_13B,
        [((0, 2), 2, 1), ((1,), 1, 1), ((3,), 1, 1)],
    ),
}


@pytest.mark.parametrize("name", HOSTS)
def test_hosts_are_divided_as_expected(name: str) -> None:
    gpus, spec, expected = HOSTS[name]
    assert sizes(laid(gpus, spec)) == expected


def test_where_heads_do_not_divide_a_pipeline_takes_every_card_and_the_reason_says_why() -> None:
    spec = replace(LLAMA_70B, heads=63, kv_heads=9, intermediate_size=28665)
    layout = laid(single(*["A100 80GB"] * 2), spec)
    assert sizes(layout) == [((0, 1), 1, 2)]
    assert "2 GPUs cannot share 63 attention heads evenly" in layout.reasons[0]


def test_names_and_ports_count_up_and_the_host_is_named() -> None:
    instances = laid(single("A10", "A10"), LLAMA_8B).instances
    assert [(each.name, each.port, each.hosts) for each in instances] == [
        ("llama-0", 8000, ("gpu-1",)),
        ("llama-1", 8001, ("gpu-1",)),
    ]
    assert {each.max_model_len for each in instances} == {4096}
    assert all(each.forecast and each.forecast.fits for each in instances)


def test_the_sizes_of_the_layout_are_settings_with_a_reason() -> None:
    (instance,) = laid(pairs("L40S"), LLAMA_70B).instances
    assert [(each.name, each.value, each.origin) for each in instance.settings] == [
        ("tensor-parallel-size", 2, "layout"),
        ("pipeline-parallel-size", 2, "layout"),
    ]
    assert "along NVLink" in instance.settings[0].reason
    assert laid(single("L4"), LLAMA_8B).instances[0].settings == ()


def test_the_reason_names_the_numbers_and_why_one_gpu_does_not_do() -> None:
    (reason,) = laid(pairs(), LLAMA_70B).reasons
    assert reason.startswith("4× A100 80GB: 2 instances, 2 GPUs each; tensor parallel 2 along NVLink; 67,320 MiB")  # noqa: RUF001
    assert "on one GPU weights and overhead alone take 60,606 MiB more" in reason


def test_tensor_parallelism_over_pcie_is_taken_with_a_warning() -> None:
    (reason,) = laid(single("RTX 4090", "RTX 4090"), LLAMA_13B).reasons
    assert "over PCIe within a NUMA node; warning: without NVLink every layer waits for the bus" in reason


def test_tensor_parallelism_across_nodes_needs_a_wish_and_warns() -> None:
    layout = laid(two_nodes("RTX 4090", 2), LLAMA_13B, tensor_parallel_size=2)
    assert sizes(layout) == [((0, 1), 2, 1)]
    assert "across NUMA nodes; warning" in layout.reasons[0]


def test_before_the_driver_the_reason_admits_that_links_are_not_known() -> None:
    blind = [replace(each, peers=None, uuid="") for each in single("RTX 4090", "RTX 4090")]
    assert "not known before the driver" in laid(blind, LLAMA_13B).reasons[0]


def test_cards_of_unknown_memory_get_one_instance_each_and_the_reason_admits_it() -> None:
    blind = [replace(each, memory_mib=0, reserved_mib=0) for each in single("L4", "L4")]
    layout = laid(blind, LLAMA_70B)
    assert sizes(layout) == [((0,), 1, 1), ((1,), 1, 1)]
    assert "not known before the driver" in layout.reasons[0]
    assert {each.max_model_len for each in layout.instances} == {None}


def test_cpus_are_those_of_the_nodes_of_the_gpus() -> None:
    assert [each.cpus for each in laid(two_nodes("A10", 2), LLAMA_8B).instances] == ["0-31", "32-63"]
    (wide,) = laid(two_nodes("L40S", 4), LLAMA_70B).instances
    assert (wide.cpus, wide.numa_nodes) == ("0-31,32-63", (0, 1))
    assert laid(single("L4"), LLAMA_8B).instances[0].cpus == ""


def test_an_instance_never_spans_different_cards_and_small_ones_stay_out_with_the_number() -> None:
    layout = laid(single("L4", "T4", "L4", "A10"), LLAMA_8B)
    assert sizes(layout) == [((0,), 1, 1), ((2,), 1, 1), ((3,), 1, 1)]
    assert len(layout.reasons) == 2
    (left,) = layout.left_out
    assert left.startswith("1× T4: weights and overhead alone take 2,137 MiB more than T4 is allowed")  # noqa: RUF001


def test_an_odd_card_is_left_over_rather_than_shared() -> None:
    layout = laid(single(*["RTX 4090"] * 3), LLAMA_13B)
    assert layout.left_out == (f"1× RTX 4090 at {address(2)}: too few for another instance on 2 GPUs",)  # noqa: RUF001


def test_a_card_that_somebody_else_uses_is_left_out_with_the_number() -> None:
    layout = laid([gpu(0, "H100 80GB", free_mib=4000), gpu(1, "H100 80GB")], LLAMA_8B)
    assert sizes(layout) == [((1,), 1, 1)]
    assert layout.left_out[0].startswith(f"H100 80GB at {address(0)}: 3,473 MiB are free at the start")


def test_fewer_instances_than_possible_take_the_cards_with_the_most_room() -> None:
    layout = laid(single("L4", "H100 80GB"), LLAMA_8B, instances=1)
    assert sizes(layout) == [((1,), 1, 1)]
    assert layout.left_out == (f"1× L4 at {address(0)}: no more instances are wished",)  # noqa: RUF001
    assert sizes(laid(switched(), LLAMA_8B, instances=2)) == [((0,), 1, 1), ((1,), 1, 1)]


def test_one_large_instance_takes_the_fewest_linked_gpus() -> None:
    assert sizes(laid(switched(), LLAMA_70B, instances=1)) == [((0, 1), 2, 1)]


def test_wished_sizes_are_taken_though_fewer_gpus_would_do() -> None:
    assert sizes(laid(switched(), LLAMA_8B, tensor_parallel_size=4)) == [((0, 1, 2, 3), 4, 1), ((4, 5, 6, 7), 4, 1)]
    layout = laid(switched(count=4), LLAMA_8B, pipeline_parallel_size=2)
    assert sizes(layout) == [((0, 1), 1, 2), ((2, 3), 1, 2)]
    assert "pipeline parallel 2, as wished" in layout.reasons[0]


@pytest.mark.parametrize(
    ("wished", "code", "told", "offered"),
    [
        ({"tensor_parallel_size": 3}, "tensor-parallel", "3 GPUs cannot share 32 attention heads", "1, 2, 4, 8"),
        ({"tensor_parallel_size": 16}, "tensor-parallel", "is 16, there are 8", "at most 8"),
        ({"tensor_parallel_size": 4, "pipeline_parallel_size": 4}, "tensor-parallel", "4 pipeline stages", "at most 2"),
        ({"pipeline_parallel_size": 9}, "pipeline-parallel", "is 9, there are 8", "at most 8"),
        ({"pipeline_parallel_size": 33}, "pipeline-parallel", "cannot divide 32 layers into 33", "at most 32"),
        ({"instances": 9}, "too-many-instances", "is 9, the GPUs carry 8", "at most 8"),
        ({"port": 65_530}, "port-range", "port 65537", "at most 65528"),
        ({"shares": (0.5, 0.5)}, "gpu-shares", "add up to 1", "at most 0.47 each"),
    ],
)
def test_wishes_that_cannot_be_are_refused_with_the_nearest_that_can(
    wished: dict[str, Any], code: str, told: str, offered: str
) -> None:
    (problem,) = refused(switched(), LLAMA_8B, **wished)
    assert (problem.code, problem.where) == (code, "gpu-1")
    assert told in problem.what
    assert offered in problem.next_step


def test_the_context_that_a_refusal_offers_works() -> None:
    spec = replace(LLAMA_8B, max_context=131_072)
    (problem,) = refused(single("L4"), spec, context=131_072)
    assert problem.code == "does-not-fit"
    assert "needs 16.0 GiB for 131,072 tokens" in problem.what
    (offered,) = (int(word) for word in problem.next_step.split() if word.isdigit())
    assert sizes(laid(single("L4"), spec, context=offered)) == [((0,), 1, 1)]


@pytest.mark.parametrize(
    ("gpus", "hosts"),
    [(single("H100 80GB"), 2), (single("L4", "L4"), 4), (two_nodes("RTX 4090", 4), 2)],
    ids=["one H100", "two L4", "four RTX 4090"],
)
def test_a_model_that_needs_more_hosts_is_refused_with_their_number(gpus: list[PlannedGpu], hosts: int) -> None:
    (problem,) = refused(gpus, LLAMA_70B)
    assert problem.code == "needs-more-hosts"
    assert f"{hosts} hosts like this one would hold the model" in problem.what
    assert "MiB more than" in problem.what


def test_every_group_of_a_mixed_host_gives_its_reason() -> None:
    problems = refused(single("L4", "T4"), LLAMA_70B)
    assert [problem.what.split(":")[0] for problem in problems] == ["1× L4", "1× T4"]  # noqa: RUF001


def test_slices_are_refused_where_vllm_does_not_serve_them() -> None:
    (problem,) = refused(slices("3g.71gb", "2g.35gb"), LLAMA_8B)
    assert problem.code == "mig"
    assert address(0) in problem.what


def test_slices_get_one_instance_each_where_vllm_serves_them() -> None:
    host = slices("3g.71gb", "2g.35gb", "2g.35gb")
    assert sizes(laid(host, LLAMA_8B, mig=True)) == [((0,), 1, 1), ((1,), 1, 1), ((2,), 1, 1)]
    assert [problem.code for problem in refused(host, LLAMA_70B, mig=True)] == ["does-not-fit"] * 2
    (bare,) = refused([gpu(0, "H200 141GB", mig=True)], LLAMA_8B, mig=True)
    assert "no slice" in bare.what


def test_a_cut_card_is_left_out_where_whole_ones_serve() -> None:
    layout = laid([*slices("3g.71gb"), gpu(1, "H200 141GB")], LLAMA_8B)
    assert sizes(layout) == [((1,), 1, 1)]
    assert "MIG is on" in layout.left_out[0]


def test_instances_share_a_device_only_by_explicit_shares_and_start_one_after_the_other() -> None:
    layout = laid(single("H100 80GB", "H100 80GB"), LLAMA_8B, shares=(0.5, 0.4))
    assert [(each.gpus, each.share, each.starts_after) for each in layout.instances] == [
        ((0,), 0.5, None),
        ((0,), 0.4, "llama-0"),
        ((1,), 0.5, None),
        ((1,), 0.4, "llama-2"),
    ]
    assert [each.settings[0].value for each in layout.instances] == [0.5, 0.4, 0.5, 0.4]
    first, second = (each.forecast for each in layout.instances[:2])
    assert first
    assert second
    assert first.kv_tokens > second.kv_tokens


def test_of_sharing_instances_the_first_are_taken_together() -> None:
    layout = laid(single("H100 80GB", "H100 80GB"), LLAMA_8B, shares=(0.3, 0.5), instances=3)
    assert [(each.gpus, each.share) for each in layout.instances] == [((0,), 0.3), ((0,), 0.5), ((1,), 0.3)]


def test_a_share_that_does_not_hold_the_model_is_refused() -> None:
    (problem,) = refused(single("H100 80GB"), LLAMA_8B, shares=(0.7, 0.2))
    assert problem.what == "1\N{MULTIPLICATION SIGN} H100 80GB: needs 0.5 GiB for 4,096 tokens, 0.3 GiB are there"
    assert problem.next_step == "set the context to at most 2704"


def test_a_host_without_gpus_is_refused() -> None:
    assert [problem.code for problem in refused([], LLAMA_8B)] == ["no-gpu"]


HOST = st.lists(
    st.tuples(st.sampled_from(sorted(CARDS)), st.integers(-1, 1), st.booleans(), st.sampled_from([None, 0, 20_000])),
    max_size=9,
)
WISHED = st.fixed_dictionaries(
    {
        "instances": st.none() | st.integers(1, 9),
        "tensor_parallel_size": st.none() | st.integers(1, 8),
        "pipeline_parallel_size": st.none() | st.integers(1, 4),
        "shares": st.sampled_from([(), (0.45, 0.45), (0.6, 0.3)]),
        "mig": st.booleans(),
    }
)
SPEC = st.sampled_from([LLAMA_8B, LLAMA_13B, LLAMA_70B, replace(LLAMA_8B, heads=30, kv_heads=6)])


def built(drawn: Sequence[tuple[str, int, bool, int | None]]) -> list[PlannedGpu]:
    return [
        gpu(slot, card, node, peers=(address(slot ^ 1),) if linked else (), free_mib=free)
        for slot, (card, node, linked, free) in enumerate(drawn)
    ]


@settings(deadline=None)
@given(HOST, SPEC, WISHED)
def test_whatever_is_asked_the_layout_holds_its_promises(
    drawn: list[tuple[str, int, bool, int | None]], spec: ModelSpec, wish: dict[str, Any]
) -> None:
    gpus = built(drawn)
    layout = answer(gpus, spec, **wish)
    if isinstance(layout, tuple):
        assert layout
        assert all(problem.what and problem.next_step and problem.where == "gpu-1" for problem in layout)
        return
    alone = [position for each in layout.instances if each.share is None for position in each.gpus]
    assert len(alone) == len(set(alone))
    assert len({each.port for each in layout.instances}) == len({each.name for each in layout.instances})
    for each in layout.instances:
        assert len(each.gpus) == each.tensor_parallel_size * each.pipeline_parallel_size == len(set(each.gpus))
        assert not hindrance(spec, each.tensor_parallel_size)
        assert len({gpus[position].card for position in each.gpus}) == 1
        assert each.forecast
        assert each.forecast.fits
    for position in range(len(gpus)):
        assert sum(each.share or 1 for each in layout.instances if position in each.gpus) <= 1


@settings(deadline=None)
@given(HOST, SPEC, WISHED, st.randoms(use_true_random=False))
def test_the_order_in_which_gpus_are_listed_changes_nothing_but_positions(
    drawn: list[tuple[str, int, bool, int | None]], spec: ModelSpec, wish: dict[str, Any], chance: random.Random
) -> None:
    listed = built(drawn)
    shuffled = chance.sample(listed, len(listed))
    assert placed(listed, answer(listed, spec, **wish)) == placed(shuffled, answer(shuffled, spec, **wish))


def placed(gpus: Sequence[PlannedGpu], layout: Layout | tuple[Problem, ...]) -> object:
    """Return the answer with addresses in the place of positions."""
    if isinstance(layout, tuple):
        return layout
    instances = [(addresses(gpus, each.gpus), replace(each, gpus=())) for each in layout.instances]
    return instances, layout.reasons, layout.left_out


def test_a_model_that_nobody_knows_gets_one_gpu_per_instance_or_what_is_wished() -> None:
    layout = lay_out("gpu-1", pairs(), None, WISH, None)
    assert isinstance(layout, Layout)
    assert sizes(layout) == [((slot,), 1, 1) for slot in range(4)]
    assert "whether the model fits is not known" in layout.reasons[0]
    wished = lay_out("gpu-1", pairs(), None, replace(WISH, tensor_parallel_size=2), None)
    assert isinstance(wished, Layout)
    assert sizes(wished) == [((0, 1), 2, 1), ((2, 3), 2, 1)]


def test_a_model_of_which_vllm_makes_no_pipeline_is_never_given_one() -> None:
    spec = replace(LLAMA_13B, architecture="Gemma3nForCausalLM")
    assert sizes(laid(two_nodes("RTX 4090", 2), spec)) == [((0, 1), 2, 1)]
    (problem,) = refused(switched(), spec, pipeline_parallel_size=2)
    assert "the layers of Gemma3nForCausalLM into 2 pipeline stages" in problem.what
    (single_host,) = refused(single("RTX 4090"), spec)
    assert single_host.code == "does-not-fit"


def at_least(spec: ModelSpec, context: int) -> Assess:
    """Return the real forecast of which nothing fits that has less context than this."""
    real = assessing(spec, None)

    def assess(
        gpu: PlannedGpu, tensor_parallel_size: int, pipeline_parallel_size: int, share: float | None = None
    ) -> Forecast:
        found = real(gpu, tensor_parallel_size, pipeline_parallel_size, share)
        return replace(found, fits=found.max_context >= context, reasons=())

    return assess


def test_what_fits_vllm_and_not_the_wished_context_is_left_out_with_the_longest() -> None:
    spec = replace(LLAMA_8B, max_context=131_072)
    layout = lay_out("gpu-1", single("L4", "H100 80GB"), spec, WISH, at_least(spec, 131_072))
    assert isinstance(layout, Layout)
    assert sizes(layout) == [((1,), 1, 1)]
    assert "the longest context that fits is 38,368 tokens" in layout.left_out[0]
    problems = lay_out("gpu-1", single("L4"), spec, WISH, at_least(spec, 131_072))
    assert not isinstance(problems, Layout)
    assert [problem.code for problem in problems] == ["does-not-fit"]


def test_a_share_that_is_far_too_small_is_no_reason_for_more_hosts() -> None:
    (problem,) = refused(single("H100 80GB"), LLAMA_8B, shares=(0.1, 0.1))
    assert problem.code == "does-not-fit"


def test_a_busy_card_does_not_change_how_many_hosts_are_needed() -> None:
    (problem,) = refused([gpu(0, "H100 80GB", free_mib=1000), gpu(1, "H100 80GB", free_mib=1000)], LLAMA_8B)
    assert problem.code == "memory-in-use"
    busy = [gpu(0, "L4", free_mib=1000), gpu(1, "L4")]
    (more,) = refused(busy, LLAMA_70B)
    assert "4 hosts like this one" in more.what
