"""What the planner makes of hosts as one buys or rents them: one readable file per host, with all models.

To renew the files after looking at the difference: REWRITE_GOLDEN=1 pytest tests/test_golden_plans.py
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from rackhand import planner
from rackhand.plan import Instance, Plan, Refusal
from rackhand.plan_words import bill
from rackhand.remote.nvml import taken_mib
from rackhand.seen import gpus
from tests.hosts_at_work import HOSTS, MODELS, wished

GOLDEN = Path(__file__).parent / "golden" / "plans"


def test_there_are_more_hosts_and_models_than_one_looks_at_by_hand() -> None:
    assert len(HOSTS) >= 12
    assert len(MODELS) >= 6
    assert {path.stem for path in GOLDEN.iterdir()} == set(HOSTS)


@pytest.mark.parametrize("name", HOSTS)
def test_every_host_gets_the_plans_that_an_operator_read_and_approved(name: str) -> None:
    said = "\n\n".join("\n".join(_block(name, model)) for model in MODELS) + "\n"
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("REWRITE_GOLDEN"):
        path.write_text(said)
    assert said == path.read_text()


def _block(name: str, model: str) -> Iterator[str]:
    made = planner.plan(name, HOSTS[name], wished(model))
    verdict = f"{len(made.instances)} planned" if isinstance(made, Plan) else "refused"
    yield f"{model} on {made.cards}: {verdict}"
    yield from (f"  {line}" for line in (_plan(made) if isinstance(made, Plan) else _refusal(made)))


def _plan(plan: Plan) -> Iterator[str]:
    yield from (_instance(instance) for instance in plan.instances)
    yield from dict.fromkeys(bill(each.forecast) for each in plan.instances if each.forecast)
    settings = (setting for instance in plan.instances for setting in instance.settings)
    yield from dict.fromkeys(f"{each.name} = {json.dumps(each.value)}: {each.reason}" for each in settings)
    yield from (f"because: {line}" for line in plan.reasons)
    yield from (f"left out: {line}" for line in plan.left_out)
    yield from (f"warning: {line}" for line in plan.warnings)


def _instance(instance: Instance) -> str:
    places = ", ".join(map(str, instance.gpus))
    cpus = f", CPUs {instance.cpus}" if instance.cpus else ""
    return f"{instance.name} on port {instance.port}: GPU {places}{cpus}"


def _refusal(refusal: Refusal) -> Iterator[str]:
    for reason in refusal.reasons:
        yield f"{reason.code}: {reason.what}"
        yield f"  do: {reason.next_step}"


def test_what_a_plan_divides_of_an_h200_is_cudas_total() -> None:
    """Bytes as NVML and torch.cuda.mem_get_info said them of an idle H200 (driver 580.159.04)."""
    total, reserved, of_cuda = 150_754_820_096, 644_939_776, 150_109_880_320
    (said,) = HOSTS["1xH200"].nvml.gpus
    assert (said.memory_mib, said.reserved_mib) == (total >> 20, taken_mib(reserved))
    assert (gpus(HOSTS["1xH200"])[0].memory_mib, of_cuda >> 20) == (143_771, 143_155)
    made = planner.plan("gpu-1", HOSTS["1xH200"], wished("llama-3.1-8b-instruct"))
    assert isinstance(made, Plan)
    (instance,) = made.instances
    assert instance.basis is not None
    assert instance.forecast is not None
    assert instance.basis.device.total_mib == 143_155
    assert instance.forecast.allowed_mib == 143_155 * instance.basis.serving.gpu_memory_utilization
