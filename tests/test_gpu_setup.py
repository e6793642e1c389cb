"""What is to run beside the driver and what GPUs are set to: decided from what a host says of itself."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

from rackhand import gpu_modes, gpu_setup, program
from rackhand.remote import gpu_setup as remote
from rackhand.survey import Survey
from tests.surveys import address, bare, settings, setup, survey

RUNS = {"there": True, "enabled": True, "active": True}
POWER = {
    "nvml__gpus__0__power_limit_w": 72,
    "nvml__gpus__0__power_default_w": 72,
    "nvml__gpus__0__power_range_w": [40, 72],
}
SLICED = {
    "nvml__gpus__0__mig": False,
    "nvml__gpus__0__mig_pending": False,
    "nvml__gpus__0__mig_profiles": [
        {"name": "1g.10gb", "slices": 1, "most": 7, "memory_mib": 9_984},
        {"name": "2g.20gb", "slices": 2, "most": 3, "memory_mib": 20_096},
        {"name": "3g.40gb", "slices": 3, "most": 2, "memory_mib": 40_448},
        {"name": "7g.80gb", "slices": 7, "most": 1, "memory_mib": 81_024},
    ],
}
SWITCH = {
    "address": "0000:05:00.0",
    "vendor": "0x10de",
    "device": "0x22a3",
    "device_class": "0x068000",
    "subsystem_vendor": "0x10de",
    "subsystem_device": "0x0000",
    "driver": "nvidia-nvswitch",
    "numa_node": 0,
}


def on_a_board(**services: Any) -> Survey:
    """Return two H100 behind an NVSwitch; `services` come to those of a host without one."""
    pci = [each.model_dump() for each in survey("h100", "h100").pci]
    found = {**setup()["services"], **{f"nvidia-{name}": facts for name, facts in services.items()}}
    return survey("h100", "h100", pci=[*pci, SWITCH], setup=setup(services=found))


def differences(found: Survey, **wished: Any) -> tuple[str, ...]:
    return gpu_setup.differences(found, gpu_setup.wanted(found, settings(**wished)))


def problems(found: Survey, **wished: Any) -> list[str]:
    return [f"{each.code}: {each.what}" for each in gpu_modes.refusals("gpu-1", found, settings(**wished))]


def test_a_prepared_host_has_nothing_to_do() -> None:
    assert differences(survey("l4")) == ()


def test_a_bare_host_says_all_that_will_run_and_load_at_boot() -> None:
    services = ("persistence mode on", "rackhand-gpus on", "rackhand-hardware on")
    assert differences(bare("l4", setup={})) == (*services, "nvidia, nvidia_uvm at boot")


def test_the_fabric_manager_runs_behind_nvswitches_and_nowhere_else() -> None:
    assert differences(on_a_board()) == ("nvidia-fabricmanager on",)
    assert differences(on_a_board(fabricmanager=RUNS)) == ()
    left_over = setup(services={**setup()["services"], "nvidia-fabricmanager": RUNS})
    assert differences(survey("l4", setup=left_over)) == ("nvidia-fabricmanager off",)


def test_boards_with_hidden_switches_load_their_bridges_first() -> None:
    found = gpu_setup.wanted(survey("b300", "b300"), settings())
    assert found.modules == ("nvidia", "nvidia_uvm", "mlx5_core", "ib_umad")
    assert found.services == ("nvidia-persistenced", "nvidia-fabricmanager", "rackhand-gpus", "rackhand-hardware")
    alone = gpu_setup.wanted(survey("b300"), settings())
    assert alone.services == ("nvidia-persistenced", "rackhand-gpus", "rackhand-hardware")


def test_a_daemon_that_runs_and_lets_gpus_forget_begins_anew() -> None:
    found = survey("l4", nvml__gpus__0__persistence=False)
    assert differences(found) == ("persistence mode on",)
    assert gpu_setup.again(found, gpu_setup.wanted(found, settings())) == ("nvidia-persistenced",)


def test_a_driver_that_is_not_ours_keeps_its_services_as_they_are() -> None:
    assert differences(survey("l4", setup={}), driver_manage=False) == ("rackhand-hardware on",)
    found = gpu_setup.wanted(survey("l4", **POWER), settings(driver_manage=False, gpu_power_limit_w=60))
    assert found.services == ("rackhand-gpus", "rackhand-hardware"), "it sets the limit again at each boot"


def test_a_limit_is_set_now_and_at_each_boot() -> None:
    found = survey("l4", **POWER)
    wanted = gpu_setup.wanted(found, settings(gpu_power_limit_w=60))
    assert wanted.kept == {address(0): {"power_limit_w": 60}}
    assert gpu_modes.differing(found, wanted.modes) == wanted.kept
    assert "power limit 60 W (0000:10:00.0)" in gpu_setup.differences(found, wanted)


def test_a_limit_is_chosen_by_address_then_by_the_longest_name_then_by_all() -> None:
    found = survey("l4", **POWER, nvml__gpus__0__name="NVIDIA L4")
    for wish, limit_w in (
        ({"all": 50, "L": 55, "nvidia l4": 60}, 60),
        ({"all": 50, "L4": 60, address(0): 65}, 65),
        ({"all": 50, "H100": 400}, 50),
        ({"H100": 400}, None),
    ):
        modes = gpu_modes.wished(found, settings(gpu_power_limit_w=wish))
        assert modes.get(address(0), {}).get("power_limit_w") == limit_w


def test_a_limit_of_ours_goes_back_to_the_cards_own_when_it_is_no_longer_wished() -> None:
    changed = {**POWER, "nvml__gpus__0__power_limit_w": 60}
    ours = survey("l4", **changed, setup=setup(kept={address(0): {"power_limit_w": 60}}))
    assert differences(ours) == ("power limit 72 W (0000:10:00.0)", "what boots set of the GPUs")
    assert differences(survey("l4", **changed)) == (), "what somebody else set is theirs"


def test_what_a_card_cannot_do_is_refused_with_its_numbers() -> None:
    found = survey("l4", **POWER)
    assert problems(found, gpu_power_limit_w=72) == []
    assert problems(found, gpu_power_limit_w=73) == [
        "gpu-power-limit: gpu_power_limit_w is 73 W, and l4 at 0000:10:00.0 takes 40 to 72 W"
    ]
    assert problems(survey("l4"), gpu_power_limit_w=60) == [
        "gpu-power-limit: gpu_power_limit_w is 60, and l4 at 0000:10:00.0 has no limit that can be set"
    ]
    assert problems(survey("l4"), gpu_ecc=True) == [
        "gpu-ecc: gpu_ecc is True, and l4 at 0000:10:00.0 has no ECC that can be switched"
    ]
    assert problems(bare("l4"), gpu_power_limit_w=9999, gpu_ecc=True) == [], (
        "nobody can tell before the driver is there"
    )


def test_profiles_are_refused_where_the_card_has_not_got_them_or_not_so_many_at_once() -> None:
    found = survey("h100", **SLICED)
    for wish, why in (
        (["3g.40gb", "3g.40gb"], None),
        (["3g.71gb"], "has no 3g.71gb"),
        (["7g.80gb", "7g.80gb"], "holds 7g.80gb at most 1 times"),
        (["3g.40gb", "3g.40gb", "2g.20gb"], "has 7 compute slices, not 8"),
        (["3g.40gb", "3g.40gb", "1g.10gb"], "has 81,024 MiB for slices, not 90,880"),
    ):
        what = f"gpu-mig: gpu_mig wants {' + '.join(sorted(wish))}, and h100 at 0000:10:00.0 {why}"
        assert problems(found, gpu_mig={"all": wish}) == ([what] if why else [])
    (step,) = (each.next_step for each in gpu_modes.refusals("gpu-1", found, settings(gpu_mig={"all": ["9g.9gb"]})))
    assert step == "choose among 1g.10gb (up to 7), 2g.20gb (up to 3), 3g.40gb (up to 2), 7g.80gb (up to 1)"
    assert problems(survey("l4"), gpu_mig={"all": ["1g.10gb"]}) == [
        "gpu-mig: gpu_mig wants 1g.10gb, and l4 at 0000:10:00.0 has no MIG"
    ]
    assert problems(survey("l4"), gpu_mig="off") == [], "off is what it is"


def test_a_card_is_not_cut_under_somebody_elses_process() -> None:
    busy = {"nvml__gpus__0__processes": [{"pid": 7, "mib": 9, "unit": "train.service"}]}
    assert problems(survey("h100", **SLICED, **busy), gpu_mig={"all": ["7g.80gb"]}) == [
        "gpu-mig: gpu_mig changes how h100 at 0000:10:00.0 is cut, and process 7 (train.service) computes on it"
    ]
    ours = {"nvml__gpus__0__processes": [{"pid": 7, "mib": 9, "unit": "vllm@llama-0.service"}]}
    assert problems(survey("h100", **SLICED, **ours), gpu_mig={"all": ["7g.80gb"]}) == [], "it is drained first"


def test_slices_are_cut_now_and_at_each_boot_and_need_the_card_for_themselves() -> None:
    found = survey("h100", **SLICED)
    wanted = gpu_setup.wanted(found, settings(gpu_mig={"h100": ["3g.40gb", "1g.10gb"]}))
    assert wanted.kept == {address(0): {"mig": ["1g.10gb", "3g.40gb"]}}
    assert gpu_modes.differing(found, wanted.modes) == wanted.kept
    assert gpu_modes.disturbing(found, wanted.modes)
    off = gpu_setup.wanted(found, settings(gpu_mig="off"))
    assert (off.kept, gpu_modes.differing(found, off.modes)) == ({}, {}), "off it is, and no boot turns it on"


def test_what_waits_for_a_reset_counts_as_set_and_is_told() -> None:
    waiting = survey("h100", **{**SLICED, "nvml__gpus__0__mig_pending": True})
    modes = gpu_setup.wanted(waiting, settings(gpu_mig={"all": ["7g.80gb"]})).modes
    assert gpu_modes.differing(waiting, modes) == {}
    assert gpu_modes.pending(waiting, modes) == ("MIG 7g.80gb (0000:10:00.0)",)
    ecc = survey("h100", nvml__gpus__0__ecc=True, nvml__gpus__0__ecc_pending=False)
    modes = gpu_setup.wanted(ecc, settings(gpu_ecc=False)).modes
    assert (gpu_modes.differing(ecc, modes), gpu_modes.pending(ecc, modes)) == ({}, ("ECC off (0000:10:00.0)",))
    assert gpu_modes.pending(ecc, {}) == (), "what somebody else asked for is theirs"


@pytest.mark.parametrize(
    ("start", "command"),
    [
        (
            "/usr/bin/nvidia-persistenced --user nvpd --no-persistence-mode --verbose",
            "/usr/bin/nvidia-persistenced --user nvpd --verbose --persistence-mode",
        ),
        ("/usr/bin/nvidia-persistenced", "/usr/bin/nvidia-persistenced --persistence-mode"),
    ],
)
def test_the_persistence_daemon_keeps_its_words_and_gets_the_mode(start: str, command: str) -> None:
    text = remote.drop_in(f"[Service]\nType=forking\nExecStart={start}\n")
    assert f"\nExecStart=\nExecStart={command}\n" in text
    assert "StopWhenUnneeded=no" in text
    assert "WantedBy=multi-user.target" in text


@pytest.mark.parametrize("name", ["rackhand-gpus", "rackhand-hardware"])
def test_systemd_accepts_the_units_beside_the_driver(tmp_path: Path, name: str) -> None:
    unit = tmp_path / f"{name}.service"
    unit.write_text(program.program("/opt/rackhand", 9105, "/var/lib/metrics").units[unit.name])
    command = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    command = ["systemd-analyze", "security", "--offline=yes", "--no-pager", "--threshold=25", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-200:]
