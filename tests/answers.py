# ruff: noqa: RUF001
"""Answers by hand, so that how they are told depends on no formula; every test says only what it is about."""

from dataclasses import replace
from typing import Any

from rackhand.commands.answer import Alternative, Answer
from rackhand.fitting.terms import Forecast, Term
from rackhand.outcome import Problem
from rackhand.plan import Instance, PlannedGpu, Setting

H100 = PlannedGpu(address="0000:10:00.0", card="H100 SXM5 80GB", memory_mib=81_559, reserved_mib=479)
L4 = PlannedGpu(address="0000:20:00.0", card="L4", memory_mib=23_034, reserved_mib=471)
TENSOR = Setting(name="tensor-parallel-size", value=2, reason="every layer is divided among 2 GPUs", origin="layout")
EAGER = Setting(name="enforce-eager", value=True, reason="given with --set", origin="user")
SEQUENCES = Setting(
    name="max-num-seqs",
    value=64,
    reason="the cache holds 70 sequences of 2,048 tokens; more of vLLM's 256 would be preempted and computed again",
    origin="fit",
)
DOES_NOT_FIT = Problem(
    code="does-not-fit",
    what="1× L4: needs 5.6 GiB for 40,960 tokens, 4.5 GiB are there",
    where="L4",
    next_step="add --context 32656, or add --gpu 2xL4",
)
OTHERS = (
    Alternative(
        what="a context of 32,656 tokens",
        arguments=("--context", "32656"),
        settings={"serve_max_model_len": 32_656},
        instances=1,
        kv_tokens=32_656,
        max_context=32_656,
    ),
    Alternative(
        what="2× L4", arguments=("--gpu", "2xL4"), settings={}, instances=1, kv_tokens=170_864, max_context=40_960
    ),
)


def forecast(total_mib: float, share: float = 0.92, others: float = 0, **mib: float) -> Forecast:
    """Return the bill of a rank; what the other terms leave of the share is KV cache."""
    sizes = {"weights": 15_669.0, "activation": 992.0, "cuda_graphs": 390.0, "non_torch": 225.0, **mib}
    allowed = total_mib * share
    sizes |= {"other_processes": others, "kv_cache": max(0.0, allowed - sum(sizes.values()))}
    terms = [Term(name=name, mib=size, formula="by hand", source="this test") for name, size in sizes.items()]
    tokens = int(sizes["kv_cache"] * 7) // 16 * 16
    return Forecast(
        fits=tokens >= 40_960,
        context=40_960,
        allowed_mib=allowed,
        terms=tuple(terms),
        kv_tokens=tokens,
        max_context=min(40_960, tokens),
        sequences=tokens / 40_960,
    )


def instance(number: int, gpus: tuple[int, ...], bill: Forecast, *settings: Setting) -> Instance:
    """Return one server on its GPUs, tensor parallel over them."""
    return Instance(
        name=f"qwen3-8b-{number}",
        port=8000 + number,
        gpus=gpus,
        max_model_len=None,
        tensor_parallel_size=len(gpus),
        settings=settings,
        forecast=bill,
    )


def answer(**changes: Any) -> Answer:
    """Return two equal instances, one on each of two GPUs."""
    bill = forecast(81_080)
    plain = Answer(
        model="qwen3-8b",
        spec=None,
        gpus=(H100, H100),
        cards="2× H100 SXM5 80GB",
        version="0.32.0",
        preset="balanced",
        context=None,
        instances=(instance(0, (0,), bill), instance(1, (1,), bill)),
        forecast=bill,
        words=("2× H100 SXM5 80GB: 2 instances, one GPU each", "H100 SXM5 80GB: taken to be joined by NVSwitches"),
    )
    return replace(plain, **changes)


def mixed() -> Answer:
    """Return one instance on an H100 and one that two L4 share, with settings."""
    first, second = forecast(81_080), forecast(22_563, others=700, weights=7_858.0, non_torch=615.0)
    return answer(
        gpus=(H100, L4, L4),
        cards="1× H100 SXM5 80GB, 2× L4",
        instances=(instance(0, (0,), first, EAGER), instance(1, (1, 2), second, TENSOR, EAGER, SEQUENCES)),
        warnings=("without NVLink every layer waits for the bus",),
    )


def refused() -> Answer:
    """Return a refusal with the bill of the nearest try and what would work."""
    return answer(
        gpus=(L4,),
        cards="1× L4",
        instances=(),
        forecast=forecast(22_563),
        reasons=(DOES_NOT_FIT,),
        alternatives=OTHERS,
        words=(),
    )


def too_large() -> Answer:
    """Return a refusal whose weights alone are larger than the GPU."""
    bill = forecast(22_563, weights=39_000.0)
    problem = replace(DOES_NOT_FIT, what="weights and overhead alone take 19,848 MiB more than L4 is allowed")
    return answer(gpus=(L4,), cards="1× L4", instances=(), forecast=bill, reasons=(problem,), words=())
