"""What our probe says of a real H200 is what nvidia-smi says of it, as benchmarks/nvml_truth.py recorded both."""

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pynvml
import pytest

RECORDED = Path(__file__).parent / "fixtures/nvml/h200-580.159.04"
PROBE: dict[str, Any] = json.loads((RECORDED / "probe.json").read_text())
GPU: dict[str, Any] = PROBE["nvml"]["gpus"][0]
SMI = ElementTree.parse(RECORDED / "nvidia-smi.xml").getroot()
CALLS: list[dict[str, Any]] = json.loads((RECORDED / "calls.json").read_text())


def smi(path: str) -> str:
    found = SMI.findtext(path)
    assert found is not None, path
    return found.strip()


def mib(path: str) -> int:
    return int(smi(path).removesuffix(" MiB"))


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (PROBE["nvml"]["driver"], smi("driver_version")),
        (PROBE["driver"]["loaded"], smi("driver_version")),
        (PROBE["driver"]["library"], smi("driver_version")),
        (PROBE["nvml"]["cuda"], smi("cuda_version")),
        (str(len(PROBE["nvml"]["gpus"])), smi("attached_gpus")),
        (GPU["uuid"], smi("gpu/uuid")),
        (GPU["name"], smi("gpu/product_name")),
        (GPU["address"], smi("gpu/pci/pci_bus_id").lower()[-12:]),
        (GPU["memory_mib"], mib("gpu/fb_memory_usage/total")),
        (GPU["reserved_mib"], mib("gpu/fb_memory_usage/reserved")),
        (GPU["mig"], smi("gpu/mig_mode/current_mig") == "Enabled"),
        (GPU["ecc"], smi("gpu/ecc_mode/current_ecc") == "Enabled"),
        (f"{GPU['power_limit_w']:.2f} W", smi("gpu/gpu_power_readings/current_power_limit")),
        (GPU["processes"], [each.tag for each in SMI.findall("gpu/processes/process_info")]),
        (GPU["slices"], [each.tag for each in SMI.findall("gpu/mig_devices/mig_device")]),
    ],
)
def test_each_fact_of_the_probe_is_what_nvidia_smi_says(ours: object, theirs: object) -> None:
    assert ours == theirs


def test_free_memory_is_never_said_to_be_more_than_nvidia_smi_rounds_it_to() -> None:
    assert 0 <= mib("gpu/fb_memory_usage/free") - GPU["free_mib"] <= 1


def test_cuda_itself_began_and_saw_the_card() -> None:
    assert json.loads((RECORDED / "cuda.json").read_text()) == {"cuInit": 0, "cuDeviceGetCount": 0, "count": 1}


def test_what_a_card_has_not_got_is_answered_by_a_code_of_its_own() -> None:
    codes = {(each["call"], *each["arguments"]): each.get("error") for each in CALLS}
    assert codes["nvmlDeviceGetHandleByIndex", 99] == pynvml.NVML_ERROR_INVALID_ARGUMENT
    assert codes["nvmlDeviceGetMigDeviceHandleByIndex", 0] == pynvml.NVML_ERROR_NOT_FOUND
    assert codes["nvmlDeviceGetNvLinkState", 0] == pynvml.NVML_ERROR_NOT_SUPPORTED
    assert codes["nvmlDeviceGetRetiredPagesPendingStatus",] == pynvml.NVML_ERROR_NOT_SUPPORTED
