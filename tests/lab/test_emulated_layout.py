"""From the emulated hardware to the layout: what NVML and the PCI bus of a host say decides how a model is divided."""

from pathlib import Path
from typing import Any

import pytest

from rackhand import seen
from rackhand.lab import personality
from rackhand.layout.lay_out import lay_out
from rackhand.layout.terms import Layout, LayoutWish
from rackhand.models.spec import ModelSpec
from rackhand.survey import Survey, parse
from tests.gpu_hosts import assessing
from tests.lab.test_emulated_nvml import host
from tests.specs import LLAMA_8B, LLAMA_13B, LLAMA_70B
from tests.surveys import answer


def survey(tmp_path: Path, name: str) -> Survey:
    """Return a host's facts with the PCI bus of a personality and what the real probe reads from its NVML."""
    facts = answer()
    facts["pci"] = [_function(each) for each in personality.load(name).functions]
    facts["nvml"]["gpus"] = host(tmp_path, name).probe()
    facts["nodes"] = [{"node": node, "cpus": f"{8 * node}-{8 * node + 7}", "memory_mib": 1} for node in (0, 1)]
    return parse(facts, name)


def _function(each: personality.PciFunction) -> dict[str, Any]:
    names = ("vendor", "device", "subsystem_vendor", "subsystem_device")
    numbers = {name: f"0x{getattr(each, name):04x}" for name in names}
    return {
        "address": each.address,
        "device_class": f"0x{each.class_code:06x}",
        "driver": "nvidia",
        "numa_node": each.numa_node,
        **numbers,
    }


@pytest.mark.parametrize(
    ("name", "spec", "expected"),
    [
        ("8xH100-nvswitch", LLAMA_70B, [(2, 1, "0-7")] * 2 + [(2, 1, "8-15")] * 2),
        ("4xA100-nvlink-pairs", LLAMA_70B, [(2, 1, "0-7"), (2, 1, "8-15")]),
        ("4xA10-two-sockets", LLAMA_13B, [(2, 1, "0-7"), (2, 1, "8-15")]),
        ("2xRTX4090", LLAMA_13B, [(2, 1, "0-7")]),
        ("4xmixed", LLAMA_8B, [(1, 1, "0-7"), (1, 1, "0-7"), (1, 1, "8-15")]),
    ],
)
def test_a_host_is_divided_by_what_it_says_of_itself(
    tmp_path: Path, name: str, spec: ModelSpec, expected: list[tuple[int, int, str]]
) -> None:
    layout = lay_out(name, seen.gpus(survey(tmp_path, name)), spec, LayoutWish(name="m", port=1), assessing(spec))
    assert isinstance(layout, Layout)
    assert [
        (each.tensor_parallel_size, each.pipeline_parallel_size, each.cpus) for each in layout.instances
    ] == expected


def test_slices_are_laid_out_for_a_vllm_that_serves_them(tmp_path: Path) -> None:
    gpus = seen.gpus(survey(tmp_path, "1xH200-mig"))
    assert [gpu.profile for gpu in sorted(gpus, key=lambda gpu: gpu.memory_mib)] == ["2g.35gb", "2g.35gb", "3g.71gb"]
    served = lay_out("mig", gpus, LLAMA_8B, LayoutWish(name="m", port=1, mig=True), assessing(LLAMA_8B))
    assert isinstance(served, Layout)
    assert len(served.instances) == 3
    refused = lay_out("mig", gpus, LLAMA_8B, LayoutWish(name="m", port=1), assessing(LLAMA_8B))
    assert not isinstance(refused, Layout)
    assert [problem.code for problem in refused] == ["mig"]
