"""The exchange of the driver's modules as a host does it, with modules, programs and processes on paper."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rackhand.remote import command, driver_boot, driver_load, gpu_holders, kernels, paused
from rackhand.remote.problem import Problem

# Does what it is told and writes that down; a file named after its words lets it fail, with what the file says.
PROGRAM = """#!/bin/sh
word="$(basename "$0")$(printf ' %s' "$@")"
echo "$word" >>{place}/said
[ ! -e "{place}/says/$word" ] || cat "{place}/says/$word"
if [ -e "{place}/fails/$word" ]; then cat "{place}/fails/$word" >&2; exit 1; fi
case "$word" in "modprobe -r "*) rm -rf "{place}/module/$2"; rm -rf {place}/module/*/holders/$2 ;; esac
"""
SERVICES = ["dcgm-exporter", "nvidia-dcgm", "nvidia-persistenced"]


class Machine:
    """Modules as the kernel shows them, and programs that write down how they were called."""

    def __init__(self, place: Path) -> None:
        self.place = place
        (place / "fails").mkdir()
        (place / "says").mkdir()
        for name in SERVICES:
            self.service(name, "active")

    def module(self, name: str, *holders: str, others: int = 0) -> None:
        for holder in ("", *holders):
            (self.place / "module" / name / "holders" / holder).mkdir(parents=True, exist_ok=True)
        (self.place / "module" / name / "refcnt").write_text(f"{len(holders) + others}\n")

    def loaded(self) -> None:
        self.module("nvidia", "nvidia_uvm", "nvidia_modeset")
        self.module("nvidia_uvm")
        self.module("nvidia_modeset", "nvidia_drm")
        self.module("nvidia_drm")

    def service(self, name: str, state: str) -> None:
        (self.place / "says" / f"systemctl is-active {name}").write_text(f"{state}\n")

    def fails(self, words: str, said: str = "") -> None:
        (self.place / "fails" / words).write_text(said)

    def said(self, program: str) -> list[str]:
        lines = (self.place / "said").read_text().splitlines() if (self.place / "said").exists() else []
        return [line.removeprefix(f"{program} ") for line in lines if line.startswith(f"{program} ")]

    def stopped_and_started(self) -> list[str]:
        return [words for words in self.said("systemctl") if words.startswith(("stop", "start"))]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("modprobe", "systemctl", "dkms", "update-initramfs"):
        (programs / name).write_text(PROGRAM.format(place=tmp_path))
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setattr(driver_load, "MODULES", tmp_path / "module")
    monkeypatch.setattr(paused, "STOPPED", tmp_path / "stopped")
    monkeypatch.setattr(gpu_holders, "PROC", tmp_path / "proc")
    monkeypatch.setattr(gpu_holders, "GLANCE_S", 0.0)
    monkeypatch.setattr(command, "LOGS", tmp_path / "logs")
    monkeypatch.setattr(command, "LOCK", tmp_path / "lock")
    monkeypatch.setattr(driver_boot, "BLACKLIST", tmp_path / "rackhand-nouveau.conf")
    return Machine(tmp_path)


def renew(modules: tuple[str, ...] = ("nvidia", "nvidia_uvm")) -> dict[str, object]:
    return driver_load.renew(services=SERVICES, modules=list(modules), timeout_s=60)


def test_what_needs_the_driver_goes_before_it_and_comes_after_it(machine: Machine) -> None:
    machine.loaded()
    assert renew() == {"why": "", "down": [], "lost": {}}
    assert machine.said("modprobe") == [
        "-r nvidia_drm", "-r nvidia_modeset", "-r nvidia_uvm", "-r nvidia",
        "nvidia", "nvidia_uvm", "nvidia_modeset", "nvidia_drm",
    ]  # fmt: skip
    assert machine.stopped_and_started() == [
        *(f"stop {name}" for name in SERVICES),
        *(f"start {name}" for name in reversed(SERVICES)),
    ]


def test_a_bare_host_has_its_modules_loaded(machine: Machine) -> None:
    assert renew()["why"] == ""
    assert machine.said("modprobe") == ["nvidia", "nvidia_uvm"]


@pytest.mark.parametrize(
    ("state", "enabled", "again"),
    [
        ("active", False, True),
        ("activating", False, True),
        ("failed", True, True),
        ("failed", False, False),
        ("inactive", True, False),
    ],
)
def test_what_did_not_run_stays_off_unless_it_failed_for_want_of_a_driver(
    machine: Machine, state: str, enabled: bool, again: bool
) -> None:
    machine.service("nvidia-dcgm", state)
    if not enabled:
        machine.fails("systemctl is-enabled nvidia-dcgm")
    renew()
    assert ("stop nvidia-dcgm" in machine.stopped_and_started()) is again
    assert ("start nvidia-dcgm" in machine.stopped_and_started()) is again


def test_a_module_in_use_by_the_kernel_itself_keeps_all_of_them(machine: Machine) -> None:
    machine.loaded()
    machine.module("nvidia_drm", others=1)
    assert "nvidia_drm is in use by the kernel itself" in str(renew()["why"])
    assert machine.said("modprobe") == []
    assert "start dcgm-exporter" in machine.stopped_and_started()


def test_a_kernel_that_does_not_count_users_lets_nothing_go(machine: Machine) -> None:
    machine.loaded()
    (machine.place / "module/nvidia/refcnt").unlink()
    assert "lets no module go" in str(renew()["why"])
    assert machine.said("modprobe") == []


def test_a_module_that_does_not_go_is_told_in_the_words_of_modprobe(machine: Machine) -> None:
    machine.loaded()
    machine.fails("modprobe -r nvidia_uvm", "modprobe: ERROR: Module nvidia_uvm is in use\n")
    assert renew()["why"] == "modprobe -r nvidia_uvm: modprobe: ERROR: Module nvidia_uvm is in use"
    assert machine.said("modprobe")[-1] == "nvidia_drm", "what had gone comes back"


def test_a_module_that_the_firmware_does_not_trust_is_no_reason_for_a_reboot(machine: Machine) -> None:
    machine.fails("modprobe nvidia", "modprobe: ERROR: could not insert 'nvidia': Key was rejected by service\n")
    with pytest.raises(Problem) as caught:
        renew()
    assert caught.value.code == "secure-boot"
    assert "start dcgm-exporter" in machine.stopped_and_started()


@pytest.mark.parametrize(("lockdown", "rejected"), [("none [integrity] confidentiality", True), ("[none]", False)])
def test_a_locked_down_kernel_denies_what_another_rejects(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, lockdown: str, rejected: bool
) -> None:
    monkeypatch.setattr(driver_load, "LOCKDOWN", tmp_path / "lockdown")
    (tmp_path / "lockdown").write_text(lockdown)
    machine.fails("modprobe nvidia", "modprobe: ERROR: could not insert 'nvidia': Operation not permitted\n")
    if rejected:
        with pytest.raises(Problem, match="does not take the module"):
            renew()
    else:
        assert "not permitted" in str(renew()["why"])


def test_a_module_of_others_that_was_built_for_the_driver_before_is_named(machine: Machine) -> None:
    machine.loaded()
    machine.module("nvidia", "nvidia_uvm", "nvidia_modeset", "gdrdrv")
    machine.module("gdrdrv")
    machine.fails("modprobe gdrdrv", "modprobe: ERROR: could not insert 'gdrdrv': Invalid argument\n")
    said = "modprobe gdrdrv: modprobe: ERROR: could not insert 'gdrdrv': Invalid argument"
    assert renew() == {"why": "", "down": [], "lost": {"gdrdrv": said}}


def test_a_service_that_does_not_come_back_is_named(machine: Machine) -> None:
    machine.fails("systemctl start nvidia-dcgm")
    assert renew()["down"] == ["nvidia-dcgm"]


def test_what_a_killed_exchange_had_stopped_is_started_by_the_next(machine: Machine) -> None:
    paused.STOPPED.write_text("dcgm-exporter\n")
    machine.service("dcgm-exporter", "inactive")
    renew()
    assert "start dcgm-exporter" in machine.stopped_and_started()
    assert not paused.STOPPED.exists()


@pytest.fixture
def stranger(tmp_path: Path) -> Iterator[int]:
    """Start a process that has a file open and another one mapped, neither of which is a GPU's."""
    for name in ("open", "mapped"):
        (tmp_path / name).write_bytes(b"0" * 4096)
    code = "import mmap,sys; a=open(sys.argv[1]); b=open(sys.argv[2],'r+b'); m=mmap.mmap(b.fileno(),0); b.close();"
    command_line = [sys.executable, "-c", f"{code} print('up',flush=True); sys.stdin.read()"]
    pipe = subprocess.PIPE
    arguments = [*command_line, str(tmp_path / "open"), str(tmp_path / "mapped")]
    with subprocess.Popen(arguments, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        yield process.pid
        process.kill()


@pytest.mark.parametrize("how", ["open", "mapped"])
def test_whoever_has_a_gpu_open_or_mapped_is_named_and_nothing_is_unloaded(
    machine: Machine, stranger: int, how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_holders, "PROC", Path("/proc"))
    monkeypatch.setattr(gpu_holders, "NODES", str(tmp_path / how))
    machine.loaded()
    with pytest.raises(Problem) as caught:
        renew()
    assert caught.value.code == "gpu-held"
    assert f"(pid {stranger}" in caught.value.what
    assert machine.said("modprobe") == []
    assert "start dcgm-exporter" in machine.stopped_and_started()


def test_who_is_spared_holds_a_gpu_by_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_holders, "GLANCE_S", 0.0)
    monkeypatch.setattr(gpu_holders, "holders", lambda: [{"pid": 7, "command": "vllm", "unit": "vllm@tiny-0.service"}])
    gpu_holders.refuse(["vllm@*.service"])
    with pytest.raises(Problem):
        gpu_holders.refuse(["dcgm-exporter.service"])


@pytest.mark.parametrize(
    ("unit", "cure"),
    [
        ("notebook.service", "systemctl stop notebook.service"),
        (f"docker-{'0123456789abcdef' * 4}.scope", "docker stop 0123456789ab"),
        (f"libpod-{'0123456789abcdef' * 4}.scope", "podman stop 0123456789ab"),
        ("session-3.scope", "kill 7"),
        ("", "kill 7"),
    ],
)
def test_the_next_step_ends_whoever_holds_a_gpu(monkeypatch: pytest.MonkeyPatch, unit: str, cure: str) -> None:
    monkeypatch.setattr(gpu_holders, "GLANCE_S", 0.0)
    monkeypatch.setattr(gpu_holders, "holders", lambda: [{"pid": 7, "command": "python3", "unit": unit}])
    with pytest.raises(Problem) as caught:
        gpu_holders.refuse([])
    assert caught.value.next_step == f"end it ({cure} on the host), then run again"


def test_who_only_glances_at_a_gpu_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = iter([[{"pid": 7, "command": "nvidia-smi", "unit": ""}], []])
    monkeypatch.setattr(gpu_holders, "holders", lambda: next(seen))
    monkeypatch.setattr(gpu_holders, "POLL_S", 0.0)
    gpu_holders.refuse([])


def module_of_next(monkeypatch: pytest.MonkeyPatch, *versions: str) -> None:
    """Let the next kernel have the module in these versions, one after the other."""
    seen = iter(versions)
    monkeypatch.setattr(kernels, "kernels", lambda: [{"release": "6.1.0", "next": True, "module": next(seen)}])


def test_what_is_missing_for_the_next_kernel_is_built(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    module_of_next(monkeypatch, "", "580.126.20")
    found = driver_boot.ready(version="580.126.20", nouveau=False, timeout_s=60)
    assert found == {"release": "6.1.0", "module": "580.126.20"}
    assert machine.said("dkms") == ["autoinstall -k 6.1.0"]
    assert not driver_boot.BLACKLIST.exists()


def test_a_next_kernel_that_has_the_module_is_left_alone(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    module_of_next(monkeypatch, "580.126.20")
    driver_boot.ready(version="580.126.20", nouveau=False, timeout_s=60)
    assert machine.said("dkms") == []


def test_nouveau_is_kept_out_of_the_next_boot(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    module_of_next(monkeypatch, "580.126.20")
    driver_boot.ready(version="580.126.20", nouveau=True, timeout_s=60)
    assert "blacklist nouveau" in driver_boot.BLACKLIST.read_text()
    assert machine.said("update-initramfs") == ["-u -k all"]


def test_no_host_is_rebooted_where_nouveau_stays_in_the_initramfs(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    module_of_next(monkeypatch, "580.126.20")
    machine.fails("update-initramfs -u -k all", "gzip: stdout: No space left on device\n")
    with pytest.raises(Problem) as caught:
        driver_boot.ready(version="580.126.20", nouveau=True, timeout_s=60)
    assert (caught.value.code, caught.value.evidence) == ("initramfs", ["gzip: stdout: No space left on device"])
