"""Layout and settings are decided together, and where nothing fits every change that is named really has a plan."""

import re
from dataclasses import replace
from typing import Any

import pytest

from rackhand import nearest, unfitted
from rackhand.arrangement import Arrangement, arrange
from rackhand.models.spec import Experts, ModelSpec, Quantization
from rackhand.outcome import Problem
from rackhand.plan import Instance, PlannedGpu
from tests.specs import LLAMA_8B, LLAMA_13B, LLAMA_70B
from tests.surveys import settings

CARDS = {
    "T4": ((7, 5), 14_910),
    "L4": ((8, 9), 22_563),
    "RTX 4090": ((8, 9), 24_080),
    "A100 SXM4 80GB": ((8, 0), 81_038),
    "H100 SXM5 80GB": ((9, 0), 81_079),
    "B200": ((10, 0), 182_642),
}
ONE = {"serve_tensor_parallel_size": 1, "serve_pipeline_parallel_size": 1}
LONG = replace(LLAMA_8B, max_context=131_072)


def gpus(card: str, count: int = 1, **more: Any) -> tuple[PlannedGpu, ...]:
    capability, memory_mib = CARDS[card]
    return tuple(
        PlannedGpu(
            address=f"0000:{number:02x}:00.0", uuid=f"GPU-{number}", card=card, memory_mib=memory_mib,
            capability=capability, peers=(), **more,
        )
        for number in range(count)
    )  # fmt: skip


def arranged(found: tuple[PlannedGpu, ...], spec: ModelSpec, **wished: Any) -> Arrangement:
    answer = arrange("gpu-1", found, spec, settings(**wished))
    assert isinstance(answer, Arrangement), answer
    return answer


def refused(found: tuple[PlannedGpu, ...], spec: ModelSpec, **wished: Any) -> tuple[Problem, ...]:
    answer = nearest.arranged("gpu-1", found, spec, settings(**wished))
    assert isinstance(answer, tuple), answer
    return answer


def emitted(instance: Instance) -> dict[str, Any]:
    return {setting.name: setting.value for setting in instance.settings}


def test_settings_of_layout_user_preset_and_memory_stand_together_once_each() -> None:
    answer = arranged(
        gpus("L4", 8), LLAMA_70B, serve_preset="cost", serve_allow_fp8=True, serve_options={"max_num_seqs": 32}
    )
    names = [setting.name for setting in answer.instances[0].settings]
    assert len(names) == len(set(names))
    assert emitted(answer.instances[0]) == {
        "tensor-parallel-size": 8,
        "max-num-seqs": 32,
        "quantization": "fp8",
        "gpu-memory-utilization": 0.93,
    }
    assert answer.left_out == tuple(line for line in answer.left_out if line.startswith("serve_allow_fp8_kv"))


def test_instances_that_share_a_gpu_say_their_share_and_nothing_raises_it() -> None:
    answer = arranged(gpus("A100 SXM4 80GB"), LLAMA_8B, serve_gpu_shares=(0.45, 0.45), serve_preset="cost")
    assert [emitted(instance)["gpu-memory-utilization"] for instance in answer.instances] == [0.45, 0.45]


def test_instances_that_share_a_gpu_fit_beside_each_other_and_what_others_hold() -> None:
    halves = {"serve_gpu_shares": (0.45, 0.45)}
    (problem,) = refused(gpus("A100 SXM4 80GB", free_mib=60_000), LLAMA_8B, **halves)
    assert problem.code == "memory-in-use"
    assert "end what else holds memory" in problem.next_step
    arranged(gpus("A100 SXM4 80GB", free_mib=75_000), LLAMA_8B, **halves)
    # Two contexts of CUDA are more than a twentieth of a small card.
    small = replace(LLAMA_8B, parts=LLAMA_8B.parts[:1], max_context=1024)
    tight = {"serve_options": {"max_num_seqs": 8}}
    arranged(gpus("T4"), small, serve_gpu_shares=(0.46, 0.46), **tight)
    (problem,) = refused(gpus("T4"), small, serve_gpu_shares=(0.475, 0.475), **tight)
    assert problem.code == "memory-in-use"
    assert "serve_gpu_shares to at most 0.46 each" in problem.next_step


def test_experts_that_the_user_keeps_whole_let_more_gpus_share_a_model() -> None:
    block = Quantization(method="fp8", weight_bits=8, group_size=128)
    experts = Experts(count=128, per_token=8, intermediate_size=1536)
    spec, wished = replace(LLAMA_8B, experts=experts, quantization=block), {"serve_tensor_parallel_size": 8}
    assert [problem.code for problem in refused(gpus("L4", 8), spec, **wished)] == ["tensor-parallel"]
    options = {"enable_expert_parallel": True}
    assert arranged(gpus("L4", 8), spec, serve_options=options, **wished).instances[0].tensor_parallel_size == 8


def test_the_longest_context_decides_about_the_number_of_gpus_where_it_may_be_shortened() -> None:
    alone = arranged(gpus("RTX 4090"), LONG, serve_max_model_len="auto")
    length = emitted(alone.instances[0])["max-model-len"]
    assert length < 65_536
    pair = arranged(gpus("RTX 4090", 2), LONG, serve_max_model_len="auto")
    assert (len(pair.instances), emitted(pair.instances[0]).get("max-model-len")) == (1, None)


def test_latency_takes_replicas_and_says_what_linked_gpus_would_do_for_it() -> None:
    linked = tuple(replace(gpu, switched=True) for gpu in gpus("H100 SXM5 80GB", 2))
    for found, hints in ((linked, 1), (gpus("H100 SXM5 80GB", 2), 0), (linked[:1], 0)):
        answer = arranged(found, LLAMA_8B, serve_preset="latency", serve_allow_fp8=True)
        assert len(answer.instances) == len(found)
        assert len([line for line in answer.left_out if "serve_tensor_parallel_size = 2" in line]) == hints
    assert arranged(linked, LLAMA_8B).left_out == ()


def test_an_unknown_memory_is_planned_without_numbers() -> None:
    answer = arranged(tuple(replace(gpu, memory_mib=0) for gpu in gpus("L4")), LLAMA_8B, serve_preset="cost")
    assert (answer.instances[0].forecast, emitted(answer.instances[0])) == (None, {})


@pytest.mark.parametrize(
    ("found", "spec", "wished", "named"),
    [
        (gpus("RTX 4090"), LONG, {}, ("serve_max_model_len", "kv-cache-dtype", '"quantization"', "a host with 2")),
        (gpus("L4"), LLAMA_13B, {}, ('"quantization"', "a host with 2 of L4")),
        (gpus("T4"), LLAMA_8B, {}, ("a host with 2 of T4",)),
        (gpus("L4", 8), LLAMA_70B, {}, ("serve_max_model_len",)),
        (gpus("H100 SXM5 80GB", 4), LLAMA_70B, ONE, ("tensor_parallel_size to 'auto'",)),
        (gpus("RTX 4090"), LLAMA_8B, {"serve_gpu_memory_utilization": 0.6}, ("utilization to 0.93",)),
    ],
    ids=["context", "weights", "old card", "eight", "wished size", "wished share"],
)
def test_every_change_that_a_refusal_names_has_a_plan(
    found: tuple[PlannedGpu, ...], spec: ModelSpec, wished: dict[str, Any], named: tuple[str, ...]
) -> None:
    (problem,) = refused(found, spec, **wished)
    assert problem.where == "gpu-1"
    assert re.search(r"\d", problem.what)
    assert [word for word in named if word not in problem.next_step] == []
    for change in nearest.nearest(found, spec, settings(**wished)):
        assert change.words in problem.next_step
        assert isinstance(arrange("gpu-1", change.gpus, spec, change.settings), Arrangement)


def test_the_context_that_is_offered_is_the_longest() -> None:
    (problem,) = refused(gpus("RTX 4090"), LONG)
    (offered,) = map(int, re.findall(r"serve_max_model_len to at most (\d+)", problem.next_step))
    arranged(gpus("RTX 4090"), LONG, serve_max_model_len=offered)
    refused(gpus("RTX 4090"), LONG, serve_max_model_len=offered + 16)


def test_a_reason_that_is_not_about_memory_keeps_its_own_step() -> None:
    (problem,) = refused(gpus("A100 SXM4 80GB"), LLAMA_8B, serve_tensor_parallel_size=3)
    assert problem.code == "tensor-parallel"
    assert "'auto'" in problem.next_step


def test_what_others_hold_is_counted_and_the_share_that_remains_is_named() -> None:
    (problem,) = refused(gpus("A100 SXM4 80GB", free_mib=60_000), LLAMA_8B)
    assert problem.code == "memory-in-use"
    assert "59,473" in problem.what


def test_hosts_that_are_alike_have_plans_of_their_own_names() -> None:
    plans = [nearest.arranged(host, gpus("L4"), LLAMA_8B, settings()) for host in ("a", "b")]
    hosts = [plan.instances[0].hosts for plan in plans if isinstance(plan, Arrangement)]
    assert hosts == [("a",), ("b",)]


def test_a_model_that_nobody_can_compute_gets_what_is_wished_and_no_promise() -> None:
    wished = settings(
        serve_tensor_parallel_size=2, serve_max_model_len=4096, serve_options={"max-num-seqs": 8}, serve_instances=1
    )
    answer = unfitted.arrange("gpu-1", gpus("L4", 5), wished, "its layers are not known")
    assert isinstance(answer, Arrangement)
    (instance,) = answer.instances
    assert (instance.gpus, instance.forecast) == ((0, 1), None)
    assert emitted(instance) == {"tensor-parallel-size": 2, "max-model-len": 4096, "max-num-seqs": 8}
    assert answer.warnings == ("whether the model fits is not known: its layers are not known",)


def test_a_model_that_nobody_can_compute_needs_its_gpus_all_the_same() -> None:
    wished = settings(serve_tensor_parallel_size=4)
    answer = unfitted.arrange("gpu-1", gpus("L4", 3), wished, "its layers are not known")
    assert isinstance(answer, tuple)
    assert [problem.code for problem in answer] == ["tensor-parallel"]


def test_a_layout_that_cannot_be_hides_no_other_reason() -> None:
    problems = arrange(
        "gpu-1",
        gpus("H100 SXM5 80GB", 2),
        LLAMA_8B,
        settings(serve_tensor_parallel_size=3, serve_max_model_len=999_999),
    )
    assert isinstance(problems, tuple)
    assert {problem.code for problem in problems} == {"tensor-parallel", "context-over-model"}
    assert {problem.where for problem in problems} == {"gpu-1"}


@pytest.mark.parametrize(
    ("cards", "besides"),
    [
        (("T4", "H100 SXM5 80GB"), set()),
        (("H100 SXM5 80GB", "T4"), set()),
        (("T4", "T4"), {"quantization-capability"}),
    ],
)
def test_a_card_that_is_too_old_is_a_reason_only_where_no_other_is_there(
    cards: tuple[str, ...], besides: set[str]
) -> None:
    found = [replace(gpus(card)[0], address=f"0000:{place:02x}:00.0") for place, card in enumerate(cards)]
    stored = replace(LLAMA_8B, quantization=Quantization(method="mxfp8", weight_bits=8))
    problems = arrange("gpu-1", found, stored, settings(serve_tensor_parallel_size=3))
    assert isinstance(problems, tuple)
    assert {problem.code for problem in problems} == {"tensor-parallel", *besides}
