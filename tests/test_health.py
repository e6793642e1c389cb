"""What a host says of its GPUs becomes findings: each with its code, its card, its severity, and whether it blocks."""

import re
from typing import Any

import pytest

from rackhand.catalog.health import XID, health_book
from rackhand.health.policy import Policy
from rackhand.health.seen import EngineSeen
from rackhand.outcome import Severity
from tests.ailments import A100, H100, address, codes, found, host, lines
from tests.error_codes import ROOT

SPANNING = [EngineSeen(name="tiny", gpus=("GPU-0", "GPU-1"))]
ALONE = [EngineSeen(name="tiny", gpus=("GPU-0",)), EngineSeen(name="tiny-1", gpus=("GPU-1",))]


@pytest.mark.parametrize("answer", [host(), host(1), host(8, H100, switched=True)], ids=["cards", "card", "board"])
def test_a_host_that_is_well_has_nothing_found(answer: dict[str, Any]) -> None:
    assert found(answer) == ()


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ({"remapped": {"correctable": 0, "uncorrectable": 1, "pending": True, "failed": False}}, "row-remap-pending"),
        ({"remapped": {"correctable": 0, "uncorrectable": 1, "pending": True, "failed": True}}, "row-remap-failed"),
        ({"retired_pending": True}, "retired-page-pending"),
        ({"ecc_uncorrected": 3}, "ecc-uncorrected"),
        ({"sram_threshold": True}, "sram-threshold"),
        ({"recovery": 1}, "recovery-action"),
        ({"ecc": [1, 0]}, "ecc-pending"),
        ({"mig": [0, 1]}, "mig-pending"),
        ({"clock_events": 0x20}, "thermal-slowdown"),
        ({"clock_events": 0x48}, "thermal-slowdown"),
        ({"clock_events": 0x88}, "power-brake"),
        ({"clock_events": 0x8}, "hw-slowdown"),
        ({"power_limit_w": 500}, "power-limit"),
        ({"persistence": False}, "persistence-off"),
        ({"compute_mode": 2}, "compute-mode"),
        ({"compute_mode": 3}, "compute-exclusive"),
        ({"used_mib": 4096}, "memory-held"),
        ({"failed": {"nvlinks": 999}}, "gpu-unreadable"),
        ({"failed": {"ecc": 15, "pcie": 15}}, "gpu-lost"),
        ({"failed": {"ecc": 16}}, "gpu-reset-required"),
    ],
)
def test_what_ails_one_card_is_said_of_that_card(wrong: dict[str, Any], code: str) -> None:
    answer = host()
    answer["nvml"]["gpus"][1].update(wrong)
    (only,) = found(answer)
    assert (only.code, only.gpu, only.where) == (code, address(1), f"rack1 GPU {address(1)}")
    assert only.severity is health_book().finding(code).severity


@pytest.mark.parametrize(
    ("state", "code"),
    [
        ("missing", "gpu-not-in-nvml"),
        ("lost", "gpu-lost"),
        ("reset-required", "gpu-reset-required"),
        ("error", "gpu-unreadable"),
    ],
)
def test_a_card_that_does_not_answer_is_told_by_how_it_does_not(state: str, code: str) -> None:
    answer = host()
    answer["nvml"]["gpus"][1] = {"address": address(1), "state": state, "detail": "said NVML", "failed": {}}
    answer["cuda"]["devices"] = 1
    answer["engines"] = []
    assert codes(answer) == [code]


def test_a_card_of_the_release_that_is_gone_counts_for_verify_and_not_for_what_is_to_be_deployed() -> None:
    answer = host()
    answer["engines"] = [{"name": "tiny", "gpus": ["GPU-0", "GPU-of-yesterday", "MIG-7"]}]
    (gone,) = found(answer)
    assert (gone.code, gone.severity) == ("gpu-missing", Severity.FATAL)
    assert "GPU-of-yesterday of vllm@tiny" in gone.what
    assert found(answer, engines=SPANNING) == ()


@pytest.mark.parametrize(
    ("promised", "code"),
    [({"gpu_count": 4}, "gpu-count"), ({"gpu_model": "H100"}, "gpu-model"), ({"gpu_count": 2, "gpu_model": "l4"}, "")],
)
def test_the_inventory_is_kept_to_its_promise(promised: dict[str, Any], code: str) -> None:
    assert codes(host(), **promised) == ([code] if code else [])


def test_a_bare_host_lacks_its_gpus_and_nothing_else() -> None:
    answer = host(0)
    answer["nvml"] = {"state": "no-library", "detail": "", "gpus": []}
    answer["cuda"]["state"] = "no-library"
    assert codes(answer, gpu_count=8) == ["no-gpu"]


def test_cards_of_one_name_are_alike() -> None:
    answer = host()
    answer["nvml"]["gpus"][1].update(memory_mib=40960, vbios="95")
    (mixed,) = found(answer)
    assert mixed.code == "gpu-mixed"
    assert "40,960, 81,559 MiB; firmware 95, 96.00.74.00.01" in mixed.what


@pytest.mark.parametrize(
    ("code", "finding"),
    [
        (3, "cuda-uninitialized"),
        (100, "cuda-no-device"),
        (802, "cuda-not-ready"),
        (803, "cuda-mismatch"),
        (804, "cuda-compat"),
        (999, "cuda-unknown"),
        (46, "cuda-failed"),
    ],
)
def test_each_result_of_cuda_has_a_cause_of_its_own(code: int, finding: str) -> None:
    answer = host()
    answer["cuda"] = {"state": "failed", "code": code, "name": "CUDA_ERROR", "devices": 0, "detail": ""}
    (only,) = found(answer)
    assert (only.code, only.blocks) == (finding, True)
    assert f"cuInit answered {code} (CUDA_ERROR)" in only.what


@pytest.mark.parametrize("state", ["no-library", "hangs", "crashed"])
def test_cuda_that_gives_no_result_is_told(state: str) -> None:
    answer = host()
    answer["cuda"] = {"state": state, "detail": "so it was"}
    assert codes(answer) == [f"cuda-{state}"]


def test_cuda_that_shows_fewer_devices_than_nvml_is_told_and_slices_count_as_one() -> None:
    answer = host()
    answer["cuda"]["devices"] = 1
    assert codes(answer) == ["cuda-devices"]
    answer["nvml"]["gpus"][0]["mig"] = [1, 1]
    assert codes(answer) == []


def test_module_and_library_are_held_against_each_other() -> None:
    answer = host()
    answer["driver"]["library"] = "580.95.05"
    (only,) = found(answer)
    assert only.code == "driver-mismatch"
    assert "module 580.126.20, library 580.95.05" in only.what


def test_nvml_that_does_not_work_is_told_with_both_versions() -> None:
    answer = host()
    answer["nvml"] = {"state": "mismatch", "detail": "Driver/library version mismatch", "gpus": []}
    assert codes(answer) == ["nvml-mismatch"]


@pytest.mark.parametrize(
    ("unit", "packages", "expected"),
    [
        ({"there": False, "active": ""}, {}, ["fabricmanager-missing"]),
        ({"active": "failed", "ended": "exited with 1"}, None, ["fabricmanager-down"]),
        ({}, {"nvidia-fabricmanager-580": "1:580.95.05-1"}, ["fabricmanager-mismatch"]),
        (
            {"active": "failed"},
            {"nvidia-fabricmanager-580": "580.95.05-0ubuntu1"},
            ["fabricmanager-down", "fabricmanager-mismatch"],
        ),
    ],
)
def test_the_manager_of_the_fabric_must_run_at_the_version_of_the_driver(
    unit: dict[str, Any], packages: dict[str, str] | None, expected: list[str]
) -> None:
    answer = host(8, H100, switched=True)
    answer["units"][1].update(unit)
    answer["fabric_packages"] = answer["fabric_packages"] if packages is None else packages
    assert codes(answer) == expected


def test_a_fabric_that_is_not_needed_is_not_asked_for() -> None:
    answer = host(1, H100)
    answer["units"][1].update(there=True, active="failed")
    assert codes(answer) == []


@pytest.mark.parametrize(
    ("fabric", "code"),
    [
        ({"state": 1}, "fabric-incomplete"),
        ({"state": 2}, "fabric-incomplete"),
        ({"state": 0}, "fabric-incomplete"),
        ({"status": 999}, "fabric-incomplete"),
        ({"health": 2}, "fabric-unhealthy"),
        ({"health": 3}, "fabric-limited"),
    ],
)
def test_each_card_must_have_joined_a_healthy_fabric(fabric: dict[str, Any], code: str) -> None:
    answer = host(8, H100, switched=True)
    answer["nvml"]["gpus"][3]["fabric"].update(fabric)
    (only,) = found(answer)
    assert (only.code, only.gpu) == (code, address(3))


@pytest.mark.parametrize(("state", "expected"), [(0, []), (1, ["fabric-incomplete"])])
def test_cards_before_hopper_say_of_a_whole_fabric_that_they_have_none(state: int, expected: list[str]) -> None:
    answer = host(2, A100, switched=True)
    for gpu in answer["nvml"]["gpus"]:
        gpu["fabric"] = {"state": 0, "status": 0, "clique": "0/0", "health": 0}
    answer["nvml"]["gpus"][1]["fabric"]["state"] = state
    assert codes(answer) == expected


def test_cards_of_one_host_are_in_one_fabric() -> None:
    answer = host(8, H100, switched=True)
    answer["nvml"]["gpus"][3]["fabric"]["clique"] = "decaf/1"
    assert codes(answer) == ["fabric-split"]


@pytest.mark.parametrize(
    ("engines", "code"), [(SPANNING, "nvlink-down"), (ALONE, "nvlink-unused"), ([], "nvlink-down")]
)
def test_links_that_are_down_block_only_where_a_server_may_need_them(engines: list[EngineSeen], code: str) -> None:
    answer = host(8, H100, switched=True)
    answer["nvml"]["gpus"][5]["nvlinks"] = [True] * 15 + [False, True, False]
    (only,) = found(answer, engines=engines)
    assert (only.code, only.blocks) == (code, code == "nvlink-down")
    assert "16 of 18 up (down: 15, 17)" in only.what


def test_a_card_whose_links_are_all_off_is_held_against_the_others() -> None:
    answer = host(8, H100, switched=True)
    answer["nvml"]["gpus"][5]["nvlinks"] = None
    (only,) = found(answer)
    assert only.what.endswith("0 of 18 up")


def test_bridges_use_some_of_the_links_and_no_card_needs_more_than_its_like() -> None:
    answer = host(4, A100)
    for gpu in answer["nvml"]["gpus"]:
        gpu["nvlinks"] = [True] * 4 + [False] * 8
    assert codes(answer) == []
    answer["nvml"]["gpus"][2]["nvlinks"] = [True] * 2 + [False] * 10
    (only,) = found(answer)
    assert (only.code, only.gpu, only.what.rpartition(": ")[2]) == ("nvlink-down", address(2), "2 of 4 up")


def test_a_card_without_a_bridge_is_no_card_whose_links_are_down() -> None:
    answer = host(3, A100)
    for gpu in answer["nvml"]["gpus"][:2]:
        gpu["nvlinks"] = [True] * 12
    (only,) = found(answer)
    assert (only.code, only.gpu, only.blocks) == ("nvlink-none", address(2), False)


@pytest.mark.parametrize(
    ("pcie", "busy", "expected"),
    [
        ({"width": 8}, 0, ["pcie-width"]),
        ({"generation": 3}, 0, []),
        ({"generation": 3}, 95, ["pcie-generation"]),
        ({"replays": 7, "replays_later": 7}, 0, []),
        ({"replays": 7, "replays_later": 9}, 0, ["pcie-replay"]),
    ],
)
def test_an_idle_card_may_slow_its_link_down_and_never_narrow_it(
    pcie: dict[str, Any], busy: int, expected: list[str]
) -> None:
    answer = host()
    answer["nvml"]["gpus"][0]["pcie"].update({"generation": 5, **pcie})
    answer["nvml"]["gpus"][0]["busy_percent"] = busy
    assert codes(answer) == expected


def test_nodes_that_servers_cannot_open_are_named() -> None:
    answer = host()
    answer["nodes"] = [node for node in answer["nodes"] if node["name"] != "nvidia-uvm"]
    answer["nodes"][-1]["open"] = False
    (only,) = found(answer)
    assert only.what.endswith("/dev, missing: nvidia-uvm; shut: nvidia1")


def test_what_an_operator_ignores_is_told_and_does_not_block() -> None:
    answer = host()
    answer["kernel"] = lines(f"NVRM: Xid (PCI:{address(1)[:-2]}): 79, GPU has fallen off the bus.")
    assert [each.blocks for each in found(answer)] == [True]
    assert [each.blocks for each in found(answer, Policy(ignore=("xid-79",)))] == [False]


def test_an_operator_may_block_on_a_code_and_let_errors_pass() -> None:
    answer = host()
    answer["nvml"]["gpus"][0]["clock_events"] = 0x80
    answer["nvml"]["gpus"][1]["ecc_uncorrected"] = 1
    picky = Policy(block=("fatal", "power-brake"))
    assert [(each.code, each.blocks) for each in found(answer, picky)] == [
        ("power-brake", True),
        ("ecc-uncorrected", False),
    ]


def test_the_page_of_errors_says_of_findings_what_the_catalogue_does() -> None:
    book = health_book()
    rows = {**{row.code: row for row in book.findings}, **{f"{XID}{row.number}": row for row in book.xids}}
    page = (ROOT / "docs/reference/errors.md").read_text().partition("## What the health check finds")[2]
    told = re.findall(r"^\| `([a-z0-9-]+)` \| (.+) \| (.+) \|$", page.partition("\n## ")[0], re.MULTILINE)
    assert len(told) > 60
    assert told == [(code, f"{rows[code].severity}: {rows[code].title}", rows[code].advice) for code, _, _ in told]
