"""What the health check does on a host besides NVML: start CUDA apart, look at nodes, let DCGM test; each may fail."""

from pathlib import Path

import pytest

from rackhand.remote import health, kernel_log

XID = "2026-11-29T06:14:00+00:00 rack1 kernel: NVRM: Xid (PCI:0000:10:00): 79"
PASSED = '{"DCGM Diagnostic": {"test_categories": []}}'


@pytest.fixture
def dcgmi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return where a program is found as dcgmi."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return tmp_path / "dcgmi"


@pytest.fixture
def logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a directory in which alone programs are found."""
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def installed(place: Path, script: str) -> None:
    place.write_text(f"#!/bin/sh\n{script}\n")
    place.chmod(0o755)


def test_dcgm_that_is_not_installed_is_not_asked(dcgmi: Path) -> None:
    assert health.dcgm(5) is None


def test_dcgm_is_asked_for_its_first_level_and_understood_after_other_words(dcgmi: Path) -> None:
    installed(dcgmi, f'echo "$*" > {dcgmi.parent}/asked\necho "Successfully ran"\necho \'{PASSED}\'')
    said = health.dcgm(5)
    assert said is not None
    assert (said["status"], said["answer"]) == (0, {"DCGM Diagnostic": {"test_categories": []}})
    assert (dcgmi.parent / "asked").read_text() == "diag -r 1 --json\n"


@pytest.mark.parametrize(
    ("script", "status", "detail"),
    [
        ("echo 'Unable to connect to host engine' >&2; exit 1", 1, "Unable to connect to host engine"),
        ("echo '{half'; exit 3", 3, "{half"),
        ("exec sleep 30", None, "dcgmi did not end within 1 s"),
    ],
)
def test_dcgm_without_an_answer_says_why(dcgmi: Path, script: str, status: int | None, detail: str) -> None:
    installed(dcgmi, script)
    assert health.dcgm(1) == {"status": status, "detail": detail, "answer": None}


def test_cuda_that_takes_its_process_along_is_a_finding_and_no_failure_of_ours() -> None:
    said = health.cuda("import os; os.abort()", "")
    assert (said["state"], said["detail"]) == ("crashed", "the process that called cuInit ended with -6")


def test_cuda_that_does_not_come_back_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "CUDA_S", 1)
    assert health.cuda("import time; time.sleep(30)", "")["state"] == "hangs"


def test_a_node_that_is_a_file_or_shut_is_told_from_one_that_works(tmp_path: Path) -> None:
    (tmp_path / "nvidiactl").touch(mode=0o600)
    (tmp_path / "nvidia0").symlink_to("/dev/null")
    (tmp_path / "nvidia-caps").mkdir()
    assert health.nodes(tmp_path) == [
        {"name": "nvidiactl", "open": False, "device": False},
        {"name": "nvidia0", "open": True, "device": True},
    ]


def test_the_log_since_boot_comes_from_the_journal_and_holds_the_words_alone(logs: Path) -> None:
    installed(logs / "journalctl", f"echo '{XID}'; echo 'usb 1-1: new device'")
    installed(logs / "dmesg", "echo 'NVRM: of the buffer'")
    assert kernel_log.lines(["NVRM: "], kernel_log.TIMED) == [XID]


def test_what_counts_is_kept_however_much_the_driver_says_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    chatter = "2026-11-29T06:14:01+00:00 rack1 kernel: NVRM: _issueRpcAndWait: rpcSendMessage failed"
    said = [
        "2026-11-29T06:00:00+00:00 rack1 kernel: NVRM: loading NVIDIA UNIX Open Kernel Module for x86_64  580.126.20",
        XID,
        "2026-11-29T06:14:00+00:00 rack1 kernel: nvidia-nvswitch0: SXid (PCI:0000:05:00.0): 20034, Fatal, Link 30",
        "2026-11-29T06:14:00+00:00 rack1 kernel: NVRM: GPU 0000:10:00.0: RmInitAdapter failed! (0x23:0x65:1401)",
    ]
    monkeypatch.setattr(kernel_log, "_read", lambda _: [*said, *[chatter] * (2 * health.KEPT_LINES)])
    assert health._kernel() == said


def test_where_the_journal_has_nothing_of_this_boot_the_kernels_buffer_is_read(logs: Path) -> None:
    installed(logs / "journalctl", "echo '-- No entries --'")
    installed(logs / "dmesg", f"echo '{XID}'")
    assert kernel_log.lines(["NVRM: "], kernel_log.TIMED) == [XID]


def test_a_log_without_such_lines_is_empty_and_one_that_cannot_be_read_is_none(logs: Path) -> None:
    installed(logs / "journalctl", "echo 'usb 1-1: new device'")
    assert kernel_log.lines(["NVRM: "]) == []
    installed(logs / "journalctl", "exit 1")
    installed(logs / "dmesg", "exit 1")
    assert kernel_log.lines(["NVRM: "]) is None
    (logs / "journalctl").unlink()
    (logs / "dmesg").unlink()
    assert kernel_log.lines(["NVRM: "]) is None
