"""A host gets one plan that says everything, or a refusal that says every reason at once."""

from dataclasses import replace
from typing import Any

import pytest

from rackhand import planner
from rackhand.driver import choice
from rackhand.plan import Plan, Refusal
from rackhand.survey import Survey
from rackhand.wishes import Wishes
from tests.paper import PACKAGES as MEMBERS
from tests.surveys import CONFIG, DRIVER, VENV, address, bare, state, survey, uuid, wishes

# A card as NVML tells of it once it is cut.
CUT = {
    "mig": True,
    "mig_pending": True,
    "slices": [{"uuid": "MIG-0", "profile": "3g.40gb", "memory_mib": 40_448, "free_mib": 40_000}],
}


def planned(seen: Survey, wished: Wishes) -> Plan:
    verdict = planner.plan("gpu-1", seen, wished)
    assert isinstance(verdict, Plan), verdict
    return verdict


def refused(seen: Survey, wished: Wishes) -> Refusal:
    verdict = planner.plan("gpu-1", seen, wished)
    assert isinstance(verdict, Refusal), verdict
    return verdict


def codes(refusal: Refusal) -> list[str]:
    return [reason.code for reason in refusal.reasons]


def deployed() -> dict[str, Any]:
    unit = {
        "name": "llama-0",
        "active": "active",
        "sub": "running",
        "enabled": True,
        "restarts": 0,
        "result": "success",
        "pid": 7,
        "running_config": "abc",
    }
    files = [{"path": "model.safetensors", "size": 1, "sha256": "0" * 64}]
    return state(venv={"digest": VENV}, model={"files": files}, model_intact=True, instances=[unit])


def test_a_bare_host_is_planned_from_its_pci_bus_alone() -> None:
    plan = planned(bare("h100", "h100"), wishes(driver_version=DRIVER))
    assert [gpu.address for gpu in plan.gpus] == [address(0), address(1)]
    assert {gpu.uuid for gpu in plan.gpus} == {""}
    assert {gpu.memory_mib for gpu in plan.gpus} == {81_920}
    assert plan.driver.version == DRIVER
    assert plan.driver.packages is not None
    assert len(plan.instances) == 2


def test_with_nvml_the_gpus_have_their_uuids_and_true_memory() -> None:
    plan = planned(survey("h100", "h100"), wishes(driver_version=DRIVER))
    assert [plan.uuids(instance) for instance in plan.instances] == [(uuid(0),), (uuid(1),)]
    assert {gpu.memory_mib for gpu in plan.gpus} == {81_559}


def test_the_words_of_a_first_plan_say_what_will_happen() -> None:
    words = planned(bare("rtx4090"), wishes(driver_version=DRIVER)).words
    expected = (
        ("Debian GNU/Linux 12 (bookworm)", "1\N{MULTIPLICATION SIGN} RTX 4090"),
        (DRIVER, "install", "pin", "hold", "load it"),
        ("NVIDIA's packages for Debian 12", "open module built here"),
        ("branch 580", "supported until 2028-06-30", "CUDA 13.0"),
        (f"all {DRIVER}", "nvidia-driver-cuda, nvidia-kernel-open-dkms"),
        ("vLLM 0.33.0", "build", VENV, "requirements/vllm-0.33.0.txt"),
        ("llama", "weights", "path:llama"),
        ("RTX 4090", "1 instance on one GPU", "15,364 MiB of weights", "tokens of KV cache"),
        ("MiB per GPU: 15,364 weights", "activation", "sequences of 8,192 at once"),
        ("max-num-seqs 128", "sequences of 256 tokens"),
        ("vllm@llama-0", "127.0.0.1:8000", address(0), "to be started"),
    )
    assert len(words) == len(expected)
    for line, parts in zip(words, expected, strict=True):
        assert [part for part in parts if part not in line] == []


def test_the_words_of_a_host_that_is_done_promise_no_change() -> None:
    done = survey(
        "rtx4090", state=deployed(), packages={"installed": dict.fromkeys(MEMBERS, f"{DRIVER}-1"), "held": []}
    )
    words = " ".join(planned(done, wishes(driver_version=DRIVER)).words)
    for said in ("installed and loaded", "environment is built", "weights are here", ": running"):
        assert said in words
    for unsaid in ("install,", "load it", "reload", "reboot", "build environment", "bring", "to be started"):
        assert unsaid not in words


def test_another_loaded_driver_is_named_with_the_one_that_comes() -> None:
    words = planned(survey("h100"), wishes(driver_version="580.178.04")).words
    assert f"driver 580.178.04: install, pin and hold (loaded now: {DRIVER}); reload its modules" in words


def test_without_a_wish_the_newest_driver_of_the_branch_is_planned() -> None:
    plan = planned(bare("h100"), wishes())
    assert plan.driver.packages is not None
    assert plan.driver.version == plan.driver.packages.latest


def test_a_driver_that_is_not_managed_is_taken_as_it_is() -> None:
    plan = planned(survey("h100"), wishes(driver_manage=False))
    assert plan.driver.packages is None
    assert plan.driver.version == DRIVER
    assert f"driver {DRIVER}: verified, not managed" in plan.words


def test_a_missing_driver_that_is_not_managed_is_a_reason() -> None:
    refusal = refused(bare("h100"), wishes(driver_manage=False))
    assert "driver-not-ready" in codes(refusal)
    assert any("no-library" in reason.what for reason in refusal.reasons)


def test_a_repository_whose_key_nobody_has_published_is_refused_unless_the_operator_names_the_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known = choice.driver_packages
    monkeypatch.setattr(
        choice, "driver_packages", lambda *asked: replace(known(*asked), key_fingerprint="", key_url="")
    )
    new = bare("h100", host__distribution="ubuntu", host__version="26.04")
    refusal = refused(new, wishes(driver_branch="595"))
    assert codes(refusal) == ["unknown-key"]
    assert "Ubuntu 26.04" in refusal.reasons[0].what
    assert "driver_key_fingerprint" in refusal.reasons[0].next_step
    named = planned(new, wishes(driver_branch="595", driver_key_fingerprint="0123456789ABCDEF0123456789ABCDEF01234567"))
    assert named.driver.packages is not None
    assert named.driver.version.startswith("595.")


def test_a_refusal_lists_every_reason_with_the_host_and_a_next_step() -> None:
    broken = bare(
        "p100",
        host__systemd=False,
        host__glibc="2.17",
        host__distribution="arch",
        driver__nouveau=True,
        driver__runfile=True,
        resources__disk_free_mib=100,
    )
    refusal = refused(broken, wishes(gpu_count=2, gpu_model="H100", driver_reboot_allowed=False))
    expected = {
        "no-systemd", "glibc-too-old", "nouveau", "runfile-driver", "disk-too-small",
        "gpu-count", "gpu-model", "gpu-too-old", "unsupported-distribution",
    }  # fmt: skip
    assert expected <= set(codes(refusal))
    assert all(reason.where == "gpu-1" and reason.next_step for reason in refusal.reasons)
    assert refusal.cards.endswith("P100 PCIe 16GB")


def test_a_model_that_does_not_fit_is_a_reason_and_not_a_crash() -> None:
    assert codes(refused(survey("l4", "l4"), wishes(60))) == ["needs-more-hosts"]


def test_a_host_without_a_gpu_is_refused_for_that_alone() -> None:
    refusal = refused(bare(), wishes())
    assert codes(refusal) == ["no-gpu"]
    assert refusal.cards == "no GPU"


def test_a_foreign_listener_on_a_planned_port_is_a_reason() -> None:
    nginx = {"port": 8001, "pid": 812, "command": "nginx", "unit": "nginx.service"}
    refusal = refused(survey("h100", "h100", listeners=[nginx]), wishes())
    assert codes(refusal) == ["port-taken"]
    assert "nginx (pid 812, nginx.service)" in refusal.reasons[0].what


@pytest.mark.parametrize(
    "listener",
    [
        {"port": 8000, "pid": 9, "command": "vllm", "unit": "vllm@llama-0.service"},
        {"port": 8001, "pid": 812, "command": "nginx", "unit": "nginx.service"},
    ],
    ids=["our own", "beside the plan"],
)
def test_our_own_listener_and_one_on_another_port_are_none(listener: dict[str, Any]) -> None:
    planned(survey("h100", listeners=[listener]), wishes())


def test_the_same_facts_and_wishes_give_the_same_plan() -> None:
    assert planned(survey("h100", "l4"), wishes()) == planned(survey("h100", "l4"), wishes())


@pytest.mark.parametrize(("weight_bytes", "expected_s"), [(0, 600), (15 << 30, 702), (1500 << 30, 10_840)])
def test_the_time_to_start_grows_with_the_weights(weight_bytes: int, expected_s: int) -> None:
    assert planner.start_timeout_s(weight_bytes) == expected_s


def test_a_wished_time_to_start_wins() -> None:
    assert planned(survey("h100"), wishes(gate_start_timeout_s=33)).start_timeout_s == 33


def test_a_newer_catalogue_leaves_a_working_driver_of_the_branch_alone() -> None:
    kept = planner.plan("gpu-1", survey("h100"), wishes(driver_version=None))
    assert isinstance(kept, Plan)
    assert kept.driver.version == DRIVER
    fresh = planner.plan("gpu-1", bare("h100"), wishes(driver_version=None))
    assert isinstance(fresh, Plan)
    assert fresh.driver.version != DRIVER


def test_a_host_of_slices_is_refused_and_a_cut_card_beside_a_whole_one_left_out() -> None:
    assert codes(refused(survey("h100", nvml__gpus__0__mig=True), wishes(5))) == ["mig"]
    verdict = planner.plan("gpu-1", survey("h100", "h100", nvml__gpus__0__mig=True), wishes(5))
    assert isinstance(verdict, Plan)
    assert [instance.gpus for instance in verdict.instances] == [(1,)]
    assert "MIG is on" in verdict.left_out[0]


def test_a_card_with_slices_that_are_to_go_is_planned_whole() -> None:
    sliced = survey("h100", **{f"nvml__gpus__0__{name}": value for name, value in CUT.items()})
    plan = planned(sliced, wishes(5, gpu_mig="off"))
    assert [instance.gpus for instance in plan.instances] == [(0,)]
    assert "GPUs to be set: MIG off (0000:10:00.0)" in plan.words


def test_a_card_that_is_to_be_cut_is_left_out_beside_one_that_serves() -> None:
    profile = {"name": "3g.40gb", "slices": 3, "most": 2, "memory_mib": 40_448}
    whole = survey("h100", "h100", nvml__gpus__0__mig=False, nvml__gpus__0__mig_profiles=[profile])
    plan = planned(whole, wishes(5, gpu_mig={address(0): ["3g.40gb"]}))
    assert [plan.gpus[position].address for instance in plan.instances for position in instance.gpus] == [address(1)]
    assert "GPUs to be set: MIG 3g.40gb (0000:10:00.0)" in plan.words
    alone = survey("h100", nvml__gpus__0__mig=False, nvml__gpus__0__mig_profiles=[profile])
    assert codes(refused(alone, wishes(5, gpu_mig={"all": ["3g.40gb"]}))) == ["mig"], "nothing is left to serve from"


def test_cards_for_virtual_machines_and_memory_that_others_hold_are_warned_of() -> None:
    other = {"pid": 9, "unit": "x.service", "mib": 3_059}
    seen = survey("h100").nvml.gpus[0].model_dump()
    busy = {**seen, "free_mib": seen["free_mib"] - 3_059, "processes": [other]}
    plan = planned(survey("h100", "h100", pci__1__driver="vfio-pci", nvml__gpus=[busy]), wishes(driver_version=DRIVER))
    assert plan.warnings == (
        f"{address(1)}: bound to vfio-pci, left alone",
        f"H100 SXM5 80GB at {address(0)}: other processes hold 3,059 MiB of it",
    )
    assert [line for line in plan.warnings if f"warning: {line}" not in plan.words] == []


def test_everything_that_is_wrong_with_settings_and_memory_is_told_beside_what_is_wrong_with_the_host() -> None:
    refusal = refused(
        survey("l4", resources__disk_free_mib=100),
        wishes(60, serve_options={"swap-space": 4, "dtype": "half"}, engine_python="3.9"),
    )
    assert {"disk-too-small", "retired-option", "engine-python", "needs-more-hosts"} <= set(codes(refusal))
    assert {reason.where for reason in refusal.reasons} == {"gpu-1"}


def test_a_quantisation_that_only_some_cards_run_leaves_the_others_out() -> None:
    config = {**CONFIG, "quantization_config": {"quant_method": "mxfp4"}}
    plan = planned(survey("h100", "t4"), wishes(8, config, engine_version="0.33.0", driver_version=DRIVER))
    assert [plan.gpus[instance.gpus[0]].card for instance in plan.instances] == ["H100 SXM5 80GB"]
    assert any("T4" in line and "8.0" in line for line in plan.left_out)
