"""The kernel's log: which Xids count, whose they are, how bad they are; and what DCGM says."""

from typing import Any

import pytest

from rackhand.outcome import Severity
from tests.ailments import address, codes, found, host, lines

XID = "NVRM: Xid (PCI:0000:11:00): {}, pid=4711, name=python3, Ch 00000008"
LOAD = "NVRM: loading NVIDIA UNIX Open Kernel Module for x86_64  580.126.20  Release Build"


def logged(*said: str) -> dict[str, Any]:
    answer = host()
    answer["kernel"] = lines(*said)
    return answer


@pytest.mark.parametrize(
    ("number", "severity", "blocks"),
    [
        (79, Severity.FATAL, True),
        (48, Severity.FATAL, True),
        (46, Severity.FATAL, True),
        (95, Severity.FATAL, True),
        (109, Severity.ERROR, True),
        (94, Severity.WARNING, False),
        (63, Severity.INFO, False),
        (13, Severity.INFO, False),
        (31, Severity.INFO, False),
        (4711, Severity.WARNING, False),
    ],
)
def test_an_xid_is_as_bad_as_its_number(number: int, severity: Severity, blocks: bool) -> None:
    (only,) = found(logged(XID.format(number)))
    assert (only.code, only.severity, only.blocks) == (f"xid-{number}", severity, blocks)
    assert only.gpu == address(1)
    assert only.evidence == tuple(lines(XID.format(number)))


@pytest.mark.parametrize("slice_", ["GPU-I:05", "GPU-I:05 GPU-CI:00"])
def test_an_xid_of_a_slice_is_one_of_its_card(slice_: str) -> None:
    (only,) = found(logged(XID.format(95).replace("11:00)", f"11:00 {slice_})")))
    assert (only.code, only.gpu) == ("xid-95", address(1))


def test_xids_of_one_number_are_one_finding_with_its_last_lines() -> None:
    (only,) = found(logged(*[XID.format(13)] * 5))
    assert only.what.endswith("Xid 13, 5 times since boot or load")
    assert len(only.evidence) == 3


@pytest.mark.parametrize(("times", "severity"), [(2, Severity.WARNING), (3, Severity.ERROR)])
def test_link_errors_that_come_again_are_worse(times: int, severity: Severity) -> None:
    (only,) = found(logged(*[XID.format(74)] * times))
    assert only.severity is severity


def test_what_was_before_the_module_was_loaded_anew_is_over() -> None:
    assert codes(logged(XID.format(79), LOAD)) == []
    assert codes(logged(XID.format(79), LOAD, XID.format(48))) == ["xid-48"]


@pytest.mark.parametrize("prefix", ["2026-11-29T06:14:12,123456+00:00 ", ""])
def test_the_kernels_own_buffer_is_read_as_well(prefix: str) -> None:
    answer = host()
    answer["kernel"] = [f"{prefix}NVRM: Xid (PCI:0000:10:00.0): 95, Uncontained"]
    (only,) = found(answer)
    assert (only.code, only.gpu) == ("xid-95", address(0))


def test_a_log_that_nobody_can_read_is_told() -> None:
    answer = host()
    answer["kernel"] = None
    assert codes(answer) == ["kernel-log"]


@pytest.mark.parametrize(("kind", "code"), [("Fatal", "nvswitch-fatal"), ("Non-fatal", "nvswitch-error")])
def test_a_switch_tells_itself_whether_its_error_is_fatal(kind: str, code: str) -> None:
    said = f"nvidia-nvswitch0: SXid (PCI:0000:05:00.0): 20034, {kind}, Link 30 LTSSM Fault Up"
    (only,) = found(logged(said))
    assert (only.code, only.gpu) == (code, "")
    assert only.what.endswith("SXid 20034 of 0000:05:00.0")


def test_a_module_that_refuses_a_card_is_quoted() -> None:
    said = "NVRM: GPU 0000:11:00.0: RmInitAdapter failed! (0x24:0x72:1568)"
    (only,) = found(logged(said))
    assert (only.code, only.evidence) == ("module-refused", tuple(lines(said)))


V3 = {"DCGM GPU Diagnostic": {"test_categories": [{"category": "Deployment", "tests": [
    {"name": "Denylist", "results": [{"gpu_ids": "0", "status": "Pass"}]},
    {"name": "Page Retirement/Row Remap", "results": [{"gpu_ids": "0", "status": "Fail", "warnings": "a row waits"}]},
]}]}}  # fmt: skip
V4 = {"DCGM Diagnostic": {"test_categories": [{"category": "Deployment", "tests": [
    {"name": "software", "test_summary": {"status": "Fail"}, "results": [
        {"entity_group": "GPU", "entity_id": 0, "status": "Fail", "warnings": [{"warning": "a row waits"}]},
        {"entity_group": "GPU", "entity_id": 1, "status": "Pass"},
    ]},
]}]}}  # fmt: skip


@pytest.mark.parametrize(("answer", "name"), [(V3, "Page Retirement/Row Remap"), (V4, "software")])
def test_dcgm_is_understood_in_either_form(answer: dict[str, Any], name: str) -> None:
    told = host()
    told["dcgm"] = {"status": 226, "detail": "", "answer": answer}
    (only,) = found(told)
    assert (only.code, only.evidence) == ("dcgm-failed", ("a row waits",))
    assert only.what.endswith(f": {name}")


@pytest.mark.parametrize(
    ("severities", "code", "blocks"),
    [([5], "dcgm-advice", False), ([1, 5], "dcgm-advice", False), ([5, 6], "dcgm-failed", True)],
)
def test_dcgm_says_itself_what_a_card_may_compute_with(severities: list[int], code: str, blocks: bool) -> None:
    warnings = [{"warning": f"severity {each}", "error_severity": each} for each in severities]
    results = [{"entity_group": "GPU", "entity_id": 0, "status": "Fail", "warnings": warnings}]
    test = {"name": "software", "test_summary": {"status": "Fail"}, "results": results}
    told = host()
    told["dcgm"] = {
        "status": 205,
        "detail": "",
        "answer": {"DCGM Diagnostic": {"test_categories": [{"tests": [test]}]}},
    }
    (only,) = found(told)
    assert (only.code, only.blocks) == (code, blocks)
    assert only.evidence == tuple(f"severity {each}" for each in severities)


def test_dcgm_that_gives_no_verdict_does_not_block() -> None:
    told = host()
    told["dcgm"] = {"status": 1, "detail": "cannot connect to the host engine", "answer": None}
    assert [(each.code, each.blocks) for each in found(told)] == [("dcgm-unfinished", False)]
    told["dcgm"] = {"status": 0, "detail": "", "answer": {"DCGM Diagnostic": {"tests": [{"status": "Pass"}]}}}
    assert codes(told) == []
