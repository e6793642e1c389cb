"""Personalities are validated data, and every host gets its own UUIDs."""

import dataclasses

import pytest
import yaml

from rackhand.errors import RackhandError
from rackhand.lab import personality

EXPECTED = {
    "none": (),
    "1xH100": ("H100",),
    "8xH100-nvswitch": ("H100",) * 8,
    "8xA100-nvswitch": ("A100-SXM4",) * 8,
    "2xRTX4090": ("RTX 4090",) * 2,
    "1xL4": ("L4",),
    "1xT4": ("T4",),
    "4xmixed": ("L4", "L4", "T4", "A10"),
    "1xH200": ("H200",),
    "1xH200-mig": ("H200",),
    "4xA100-nvlink-pairs": ("A100",) * 4,
    "4xA10-two-sockets": ("A10",) * 4,
    "1xP100": ("P100",),
}


def test_every_promised_personality_ships_and_no_other() -> None:
    assert set(personality.names()) == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_a_personality_has_the_gpus_its_name_promises(name: str) -> None:
    gpus = personality.load(name).gpus
    assert len(gpus) == len(EXPECTED[name])
    assert all(word in gpu.model.nvml_name for gpu, word in zip(gpus, EXPECTED[name], strict=True))


@pytest.mark.parametrize("name", EXPECTED)
def test_no_two_pci_functions_share_an_address(name: str) -> None:
    addresses = [function.address for function in personality.load(name).functions]
    assert len(addresses) == len(set(addresses))


def test_an_unknown_name_is_answered_with_the_names_that_exist() -> None:
    with pytest.raises(RackhandError, match="1xH100") as refusal:
        personality.load("9xH900")
    assert refusal.value.code == "lab.personality"


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [("model", "h999", "h999"), ("adress", "0000:01:00.0", "adress"), ("numa_node", "left", "numa_node")],
)
def test_a_wrong_key_or_value_is_refused_by_name(field: str, value: str, message: str) -> None:
    gpu = {"model": "l4", "address": "0000:3b:00.0", field: value}
    raw = {"name": "mine", "summary": "", "gpus": [gpu]}
    with pytest.raises(RackhandError, match=message):
        personality._checked(raw, "mine.yaml")


def test_an_unknown_part_field_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = yaml.safe_load((personality.HERE / "parts.yaml").read_text())
    parts["gpus"]["l4"]["colour"] = "green"
    monkeypatch.setattr(personality, "_parts", lambda: parts)
    with pytest.raises(RackhandError, match="colour"):
        personality.load("1xL4")


def test_two_hosts_never_share_a_uuid_and_one_host_always_keeps_its_own() -> None:
    gpus = personality.load("8xH100-nvswitch").gpus
    first = [gpu.uuid("gpu-01") for gpu in gpus]
    second = [gpu.uuid("gpu-02") for gpu in gpus]
    assert len({*first, *second}) == 16
    assert first == [gpu.uuid("gpu-01") for gpu in personality.load("8xH100-nvswitch").gpus]
    assert all(len(uuid) == len("GPU-") + 36 for uuid in first)


def test_a_personality_cannot_be_changed_in_place() -> None:
    gpu = personality.load("1xL4").gpus[0]
    with pytest.raises(dataclasses.FrozenInstanceError):
        gpu.lost = True  # type: ignore[misc]


def test_the_hgx_board_has_four_nvswitches_of_the_production_id() -> None:
    switches = personality.load("8xH100-nvswitch").nvswitches
    assert [(switch.vendor, switch.device, switch.class_code >> 8) for switch in switches] == [
        (0x10DE, 0x22A3, 0x0680)
    ] * 4


def test_a_geforce_brings_an_audio_function_that_is_no_gpu() -> None:
    functions = personality.load("2xRTX4090").functions
    audio = [function for function in functions if function.class_code >> 8 == 0x0403]
    assert [function.address for function in audio] == ["0000:41:00.1", "0000:81:00.1"]


def test_a_card_older_than_turing_is_on_the_bus_but_not_in_nvml() -> None:
    gpu = personality.load("1xP100").gpus[0]
    assert gpu.on_bus
    assert not gpu.visible


def test_faults_change_only_the_named_slot() -> None:
    healthy = personality.load("4xmixed")
    broken = healthy.with_gpu(1, lost=True)
    assert [gpu.lost for gpu in broken.gpus] == [False, True, False, False]
    assert healthy.with_fewer_gpus(3).gpus == healthy.gpus[:3]
    assert healthy.with_model(3, "t4").gpus[3].model.nvml_name == "Tesla T4"


def test_a_bridge_has_two_ends() -> None:
    gpus = {gpu.address: gpu for gpu in personality.load("4xA100-nvlink-pairs").gpus}
    assert all(gpu.address in gpus[peer].peers for gpu in gpus.values() for peer in gpu.peers)
