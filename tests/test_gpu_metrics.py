"""The page of metrics that a host keeps for its node exporter: all of it once, and what becomes of it on bad days."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pynvml
import pytest
from prometheus_client.parser import text_string_to_metric_families

from rackhand import hardware_metrics, program
from rackhand.lab import personality
from rackhand.remote import gpu, gpu_metrics, metrics
from rackhand.survey import Survey
from tests.lab.test_emulated_nvml import Host
from tests.surveys import settings, setup, survey

GOLDEN = Path(__file__).parent / "golden" / "rackhand_gpu.prom"
UNITS = ("_bytes", "_watts", "_celsius", "_hertz", "_ratio", "_joules", "_lanes")
RUNS = {"there": True, "enabled": True, "active": True}


def page(host: Host) -> str:
    """Return what the host's own program says, as its unit runs it."""
    archive = host.root / "program.pyz"
    archive.write_bytes(program.program("/opt/rackhand", 9105, "/var/lib/metrics").data)
    argv = [sys.executable, "-I", str(archive), "gpu-metrics"]
    return subprocess.run(argv, env=host.environment(), capture_output=True, text=True, check=True).stdout


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path, personality.load("2xRTX4090").with_gpu(0, lost=True))


def test_the_page_of_an_h100(tmp_path: Path) -> None:
    text = page(Host(tmp_path, personality.load("1xH100")))
    # How many cards are on the bus of the machine that runs this is its own affair.
    lines = [line for line in text.splitlines() if 'seen_by="pci"' not in line]
    assert "\n".join(lines) + "\n" == GOLDEN.read_text()


def test_prometheus_reads_the_page_and_finds_types_help_and_base_units(tmp_path: Path) -> None:
    families = list(text_string_to_metric_families(page(Host(tmp_path, personality.load("8xH100-nvswitch")))))
    assert len(families) > 20
    for family in families:
        assert family.type in ("gauge", "counter"), family.name
        assert family.documentation.endswith("."), family.name
        assert len({tuple(sorted(sample.labels.items())) for sample in family.samples}) == len(family.samples)
    samples = {sample.name for family in families for sample in family.samples}
    assert {name for name in samples if name.endswith("_total")} == {
        "rackhand_gpu_energy_joules_total",
        "rackhand_gpu_ecc_errors_total",
        "rackhand_gpu_pcie_replays_total",
    }
    assert {name for name in samples if any(unit[:-1] in name and unit not in name for unit in UNITS)} == set()


def test_a_card_that_a_virtual_machine_has_is_not_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    bus = [("0000:01:00.0", "0x030200", "nvidia"), ("0000:02:00.0", "0x030000", ""), ("0000:03:00.0", "0x068000", "")]
    bus += [("0000:04:00.0", "0x030200", "vfio-pci")]
    found = [{"address": address, "device_class": kind, "driver": driver} for address, kind, driver in bus]
    monkeypatch.setattr(gpu, "pci", lambda: found)
    nvml = {"Init": None, "Shutdown": None, "SystemGetDriverVersion": "580.95.05", "DeviceGetCount": 0}
    for call, said in nvml.items():
        monkeypatch.setattr(pynvml, f"nvml{call}", lambda said=said: said)
    assert 'rackhand_gpu_devices{seen_by="pci"} 2\n' in gpu_metrics.page()


def test_a_lost_gpu_is_told_and_the_others_go_on(host: Host) -> None:
    text = page(host)
    assert 'rackhand_gpu_reachable{gpu="0",uuid="",pci=""} 0\n' in text
    assert 'rackhand_gpu_reachable{gpu="1",uuid="GPU-' in text
    assert text.count("rackhand_gpu_power_watts{") == 1


def test_what_a_card_does_not_have_is_left_out(host: Host) -> None:
    assert "rackhand_gpu_ecc_errors_total" not in page(host)


@pytest.mark.parametrize(("loaded", "state"), [(None, "not-loaded"), ("580.95.05", "mismatch")])
def test_where_nvml_fails_the_page_says_so_and_nothing_else(host: Host, loaded: str | None, state: str) -> None:
    host.load(loaded)
    assert page(host) == metrics.DOWN.format(state)
    assert f'rackhand_gpu_up{{state="{state}"}} 0\n' in page(host)


def test_an_nvml_that_hangs_is_told_and_not_asked_a_second_time_at_once() -> None:
    question = metrics.Question([sys.executable, "-c", "import time; time.sleep(30)"])
    assert question.answer(0.2) == metrics.DOWN.format("hangs")
    crashed = metrics.Question([sys.executable, "-c", "import os; os.abort()"])
    assert crashed.answer(10) == metrics.DOWN.format("crashed")


def way(found: Survey, **wished: Any) -> str:
    return hardware_metrics.way(found, settings(**wished))


def with_unit(name: str, **facts: bool) -> Survey:
    return survey("l4", setup=setup(services={**setup()["services"], name: {**RUNS, **facts}}))


def test_our_page_makes_room_for_an_exporter_of_dcgm() -> None:
    foreign, packaged = with_unit("dcgm-exporter"), with_unit("nvidia-dcgm-exporter", enabled=False, active=False)
    assert (way(survey("l4")), way(foreign), way(packaged)) == ("textfile", "off", "dcgm")
    assert way(packaged, metrics_hardware="textfile") == "textfile"
    theirs = with_unit("nvidia-dcgm-exporter")
    assert (way(theirs, driver_manage=False), way(packaged, driver_manage=False)) == ("off", "textfile")
    assert hardware_metrics.services(packaged, settings()) == ("nvidia-dcgm", "nvidia-dcgm-exporter")
    assert hardware_metrics.packages(packaged, settings()) == (), "what is there by itself is not added to"


def test_dcgm_comes_for_the_cuda_of_the_driver_and_not_twice() -> None:
    wished = settings(metrics_hardware="dcgm")
    names = tuple(f"datacenter-gpu-manager-{part}" for part in ("4-core", "4-cuda13", "exporter"))
    assert hardware_metrics.packages(survey("l4"), wished) == names
    assert hardware_metrics.packages(survey("l4", packages__installed=dict.fromkeys(names, "4.5")), wished) == ()
    assert hardware_metrics.packages(survey("l4"), settings()) == ()


def test_dcgm_is_refused_where_its_repository_is_not_ours() -> None:
    for others in ({"driver_manage": False}, {"driver_source": "distribution"}):
        wished = settings(metrics_hardware="dcgm", **others)
        assert [each.code for each in hardware_metrics.refusals("gpu-1", survey("l4"), wished)] == ["metrics-dcgm"]
        assert list(hardware_metrics.refusals("gpu-1", with_unit("nvidia-dcgm-exporter"), wished)) == []
    assert list(hardware_metrics.refusals("gpu-1", survey("l4"), settings(metrics_hardware="dcgm"))) == []
