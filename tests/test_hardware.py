"""GPUs are known by their PCI ids before any driver, and nothing unknown stops a run."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rackhand import catalog
from rackhand.catalog.gpus import Module
from rackhand.hardware import PciDevice, card_of, cuda_total_mib, describe, identify

NVIDIA = 0x10DE
VGA, COMPUTE, AUDIO, BRIDGE = 0x030000, 0x030200, 0x040300, 0x068000


def pci(device: int, slot: int = 1, device_class: int = COMPUTE, driver: str = "", subsystem: int = 0) -> PciDevice:
    return PciDevice(
        address=f"0000:{slot:02x}:00.0",
        vendor=NVIDIA,
        device=device,
        device_class=device_class,
        subsystem_vendor=NVIDIA,
        subsystem_device=subsystem,
        driver=driver,
    )


def test_eight_h100_behind_four_nvswitches_are_told_apart_from_the_switches() -> None:
    found = identify([*(pci(0x2330, slot) for slot in range(8)), *(pci(0x22A3, slot, BRIDGE) for slot in range(8, 12))])
    assert found.describe() == "8\N{MULTIPLICATION SIGN} H100 SXM5 80GB"
    assert found.nvswitches == 4
    assert found.needs_fabric_manager
    assert {gpu.card.capability for gpu in found.gpus} == {(9, 0)}
    assert {gpu.card.memory_mib for gpu in found.gpus} == {81920}
    assert found.warnings == ()


def test_mixed_cards_are_counted_the_most_frequent_first() -> None:
    found = identify([pci(0x1EB8, 1), pci(0x27B8, 2), pci(0x2236, 3), pci(0x27B8, 4)])
    assert found.describe() == "2× L4, 1× T4, 1× A10"  # noqa: RUF001 — the sign that people read
    assert not found.needs_fabric_manager


def test_no_gpu_is_said_in_words() -> None:
    assert identify([]).describe() == "no GPU"
    assert describe([]) == "no GPU"


def test_gpus_come_in_order_of_their_address() -> None:
    assert [gpu.address for gpu in identify([pci(0x2330, 9), pci(0x2330, 3)]).gpus] == ["0000:03:00.0", "0000:09:00.0"]


def test_the_audio_function_the_servers_own_vga_and_other_vendors_are_not_gpus() -> None:
    aspeed = PciDevice(
        address="0000:02:00.0", vendor=0x1A03, device=0x2000, device_class=VGA, subsystem_vendor=0, subsystem_device=0
    )
    found = identify([aspeed, pci(0x2684, 1, VGA), pci(0x22BA, 2, AUDIO)])
    assert found.describe().endswith("RTX 4090")
    assert len(found.gpus) == 1


def test_bridges_of_the_nvswitch_chip_are_not_counted_as_switches() -> None:
    assert identify([pci(0x22A8, 1, BRIDGE), pci(0x22AC, 2, BRIDGE)]).nvswitches == 0
    assert identify([pci(0x1AF1, 1, BRIDGE)]).nvswitches == 1


@pytest.mark.parametrize(("subsystem", "name"), [(0x14A9, "A16"), (0x157E, "A2"), (0x0001, "A2 or A16")])
def test_a_shared_id_is_decided_by_the_subsystem(subsystem: int, name: str) -> None:
    assert identify([pci(0x25B6, subsystem=subsystem)]).gpus[0].card.name == name


@pytest.mark.parametrize(
    ("device", "module", "min_branch", "max_branch"),
    [
        (0x15F8, Module.PROPRIETARY_ONLY, "535", "580"),
        (0x1EB8, Module.OPEN, "535", None),
        (0x2330, Module.OPEN, "535", None),
        (0x2342, Module.OPEN_ONLY, "535", None),
        (0x2901, Module.OPEN_ONLY, "570", None),
        (0x3182, Module.OPEN_ONLY, "580", None),
    ],
    ids=["P100", "T4", "H100", "GH200", "B200", "B300"],
)
def test_each_generation_asks_for_its_kernel_module_and_branches(
    device: int, module: Module, min_branch: str, max_branch: str | None
) -> None:
    card = identify([pci(device)]).gpus[0].card
    assert (card.module, card.min_branch, card.max_branch) == (module, min_branch, max_branch)


def test_b200_boards_need_a_fabric_manager_without_switches_on_the_bus_and_one_card_alone_does_not() -> None:
    assert identify([pci(0x2901, slot) for slot in range(8)]).needs_fabric_manager
    assert not identify([pci(0x2901)]).needs_fabric_manager


@pytest.mark.parametrize(
    ("device", "module"),
    [
        (0x0FFF, Module.PROPRIETARY_ONLY),
        (0x1D01, Module.PROPRIETARY_ONLY),
        (0x2571, Module.OPEN),
        (0x2FFF, Module.OPEN_ONLY),
        (0x3000, Module.OPEN_ONLY),
    ],
)
def test_an_unknown_id_is_a_warning_and_falls_back_to_its_generation(device: int, module: Module) -> None:
    found = identify([pci(device)])
    gpu = found.gpus[0]
    assert gpu.card.name == f"unknown NVIDIA GPU (10de:{device:04x})"
    assert not gpu.known
    assert gpu.card.memory_mib is None
    assert gpu.card.module is module
    assert gpu.card.name in found.warnings[0]


@given(st.integers(0, 0xFFFF), st.integers(0, 0xFFFF))
def test_no_id_whatsoever_stops_the_identification(device: int, subsystem: int) -> None:
    assert len(identify([pci(device, subsystem=subsystem)]).gpus) == 1


def test_a_card_that_is_handed_to_a_virtual_machine_is_left_alone() -> None:
    found = identify([pci(0x2330, 1, driver="vfio-pci"), pci(0x2330, 2, driver="nvidia")])
    assert [gpu.address for gpu in found.gpus] == ["0000:02:00.0"]
    assert [device.address for device in found.foreign] == ["0000:01:00.0"]
    assert "vfio-pci" in found.warnings[0]


def test_a_device_is_read_from_what_sysfs_says() -> None:
    raw = {"address": "0000:1b:00.0", "vendor": "0x10de", "device": "0x2335", "device_class": "0x030200"}
    device = PciDevice.of(
        {**raw, "subsystem_vendor": "0x10de", "subsystem_device": "0x18bf", "driver": "nvidia", "numa_node": -1}
    )
    assert device == PciDevice(
        address="0000:1b:00.0",
        vendor=NVIDIA,
        device=0x2335,
        device_class=COMPUTE,
        subsystem_vendor=NVIDIA,
        subsystem_device=0x18BF,
        driver="nvidia",
    )
    assert identify([device]).gpus[0].card.name == "H200 SXM 141GB"


def test_the_oldest_branch_of_every_card_is_one_that_the_driver_catalogue_knows() -> None:
    for device in {int(name, 16) for row in catalog.gpu_book().cards for name in row.ids}:
        card = identify([pci(device)]).gpus[0].card
        assert catalog.branch(card.min_branch).name == card.min_branch


def test_cuda_sees_less_memory_than_the_box_says_and_more_than_nine_tenths() -> None:
    book = catalog.gpu_book()
    for row in book.cards:
        assert 0.9 * row.memory_mib <= book.cuda_mib(row) < row.memory_mib, row.name


@pytest.mark.parametrize(
    ("name", "gib"),
    [("H100 SXM5 80GB", 79.18), ("A100 SXM4 80GB", 79.25), ("L40S", 44.39), ("T4", 14.56), ("RTX 4090", 23.64)],
)
def test_cuda_memory_is_what_out_of_memory_messages_say(name: str, gib: float) -> None:
    row = next(row for row in catalog.gpu_book().cards if row.name == name)
    assert card_of(row).cuda_mib == pytest.approx(gib * 1024, abs=10)


def test_a_card_without_a_reading_is_estimated_low_from_its_kind() -> None:
    book = catalog.gpu_book()
    rows = {row.name: row for row in book.cards}
    assert rows["L40"].cuda_mib is None
    assert book.cuda_mib(rows["L40"]) <= rows["L40S"].cuda_mib < 0.93 * 49152
    assert book.cuda_mib(rows["H800 SXM5 80GB"]) <= rows["H100 SXM5 80GB"].cuda_mib


def test_nvml_wins_over_the_catalogue_and_its_reserve_is_taken_off() -> None:
    h200 = card_of(next(row for row in catalog.gpu_book().cards if row.name == "H200 SXM 141GB"))
    assert cuda_total_mib(h200) == 143155
    assert cuda_total_mib(h200, 143771, 616) == 143155
    unknown = identify([pci(0x2FFF)]).gpus[0].card
    assert cuda_total_mib(unknown) is None
    assert cuda_total_mib(unknown, 24576, 400) == 24176
