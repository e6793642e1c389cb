"""What rpm and dnf say of a host of the RHEL family, read as it stands there; `rpm` and `dnf` answer as recorded."""

import os
from pathlib import Path

import pytest

from rackhand.driver.ground import Ground
from rackhand.remote import dnf, driver_facts, rpm

RELEASE = "5.14.0-687.51.1.el9_8.x86_64"
NEWER = "5.14.0-690.1.1.el9_8.x86_64"
ROWS = (
    ("kernel-core", "0", "5.14.0", "687.51.1.el9_8", "x86_64"),
    ("kernel-core", "0", "5.14.0", "690.1.1.el9_8", "x86_64"),
    ("kernel-devel", "0", "5.14.0", "687.51.1.el9_8", "x86_64"),
    ("gcc", "0", "11.5.0", "11.el9", "x86_64"),
    ("glibc-devel", "0", "2.34", "231.el9", "x86_64"),
    ("glibc-devel", "0", "2.34", "231.el9", "i686"),
    ("nvidia-driver-cuda", "3", "580.126.20", "1.el9", "x86_64"),
    ("nvidia-driver-cuda", "3", "580.178.04", "1.el9", "x86_64"),
    ("kmod-nvidia-open-dkms", "3", "580.178.04", "1.el9", "noarch"),
    ("nvidia-container-toolkit", "0", "1.19.0", "1", "x86_64"),
    ("gpg-pubkey", "0", "d42d0685", "62589a51", "(none)"),
)


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put programs before all others that print what their files hold."""
    folder = tmp_path / "programs"
    folder.mkdir()
    for name in ("rpm", "dnf"):
        (folder / name).write_text(f'#!/bin/sh\ncat "{folder}/{name}.said"\n')
        (folder / name).chmod(0o755)
    (folder / "rpm.said").write_text("".join("\t".join(row) + "\n" for row in ROWS))
    (folder / "dnf.said").write_text("")
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setattr(rpm.platform, "machine", lambda: "x86_64")
    return folder


def test_packages_are_listed_in_the_words_of_the_other_package_manager(tools: Path) -> None:
    found = {each.name: each for each in rpm.here()}
    assert (found["gcc"].version, found["gcc"].whole) == ("11.5.0-11.el9", True)
    assert found["kmod-nvidia-open-dkms"].version == "3:580.178.04-1.el9"
    assert "gpg-pubkey" not in found


def test_kernels_stand_beside_each_other_and_so_each_is_a_package_of_its_own(tools: Path) -> None:
    assert {f"kernel-core-{RELEASE}", f"kernel-core-{NEWER}", f"kernel-devel-{RELEASE}"} <= {
        each.name for each in rpm.here()
    }


def test_what_is_there_twice_was_cut_off_and_counts_as_its_newer_version(tools: Path) -> None:
    found = next(each for each in rpm.here() if each.name == "nvidia-driver-cuda")
    assert (found.version, found.whole) == ("3:580.178.04-1.el9", False)


@pytest.mark.parametrize(
    ("lock", "holds"),
    [
        ("kmod-nvidia-open-dkms-3:580.178.04-1.el9.*", True),
        ("*nvidia*580*", True),
        ("kmod-nvidia-open-dkms-3:580.126.20-1.el9.*", False),
        ("!kmod-nvidia-open-dkms-3:580.178.04-1.el9.*", False),
        ("# kmod-nvidia-open-dkms-3:580.178.04-1.el9.*", False),
    ],
)
def test_a_version_lock_of_the_installed_version_holds_a_package(
    tools: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lock: str, holds: bool
) -> None:
    (tmp_path / "versionlock.list").write_text(f"{lock}\n")
    monkeypatch.setattr(rpm, "LOCKS", tmp_path / "versionlock.list")
    found = next(each for each in rpm.here() if each.name == "kmod-nvidia-open-dkms")
    assert (found.want == "hold") is holds


# Each answer is that of rpm's own rpm.vercmp.
@pytest.mark.parametrize(
    ("version", "other", "is_older"),
    [
        ("3:580.95.05-1.el9", "3:580.126.20-1.el9", True),
        ("580.178.04-1", "3:580.126.20-1", True),
        ("580.126.20-1.el9", "580.126.20-1.el9", False),
        ("580.126.20-2.el9", "580.126.20-10.el9", True),
        ("1.0~rc1-1", "1.0-1", True),
        ("1.0-1", "1.0^git1-1", True),
        ("1.0^a-1", "1.0.1-1", True),
        ("1.0a-1", "1.0.1-1", True),
        ("1.0-1", "1.0.1-1", True),
        ("1.0.1-1", "1.0-1", False),
        ("2.a-1", "2.b-1", True),
    ],
)
def test_versions_are_ordered_as_rpm_orders_them(version: str, other: str, is_older: bool) -> None:
    assert rpm.older(version, other) is is_older


def test_the_ground_of_a_driver_is_read_without_dpkg(tools: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    for release in (RELEASE, NEWER):
        (root / "boot").mkdir(parents=True, exist_ok=True)
        (root / f"boot/vmlinuz-{release}").touch()
    (root / "boot/grub2").mkdir()
    (root / "boot/grub2/grub.cfg").write_text('set default="${saved_entry}"\nblscfg\n')
    (root / "boot/grub2/grubenv").write_text(f"# GRUB\nsaved_entry=0f5e7a9b1c2d4e6f8a0b1c2d3e4f5a6b-{NEWER}\n")
    (tools / "dnf.said").write_text(f"kernel-devel-{NEWER}\nkernel-devel-{NEWER}\nkernel-devel-5.14.0-1.el9.x86_64\n")
    found = Ground.model_validate(driver_facts.facts(False, str(root), RELEASE))
    assert set(found.packages) == {"nvidia-driver-cuda", "kmod-nvidia-open-dkms"}
    assert [(each.release, each.next, each.package) for each in found.kernels] == [
        (RELEASE, False, True),
        (NEWER, True, True),
    ]
    assert found.headers_offered == (f"kernel-devel-{NEWER}",)


@pytest.mark.parametrize(
    ("said", "code", "what"),
    [
        (["Error: Unable to find a match: glibc-devel"], "package-missing", "glibc-devel"),
        (
            [" - nothing provides dkms needed by kmod-nvidia-open-dkms-3:580.126.20-1.el9.noarch from rackhand-nvidia"],
            "package-missing",
            "dkms, which builds the kernel module",
        ),
        (["Error: GPG check FAILED"], "repository-signature", "GPG check FAILED"),
        (["Error: Failed to download metadata for repo 'baseos': Cannot download"], "repository-unreachable", "baseos"),
        (["Error: There are no enabled repositories in /etc/yum.repos.d"], "repository-unreachable", "no package"),
        (["At least 12MB more space needed on the / filesystem."], "disk-full", "disk"),
        ([" - package a-1 conflicts with b provided by c", " - conflicting requests"], "dnf-conflict", "fit together"),
        (["Error: Something new"], "dnf-failed", "status 1"),
    ],
)
def test_every_failure_of_dnf_is_said_in_our_words(said: list[str], code: str, what: str) -> None:
    problem = dnf.explained(1, said, "packages-install")
    assert problem.code == code
    assert what in problem.what
    assert problem.evidence == said


def test_dnf_that_did_not_finish_in_time_is_named() -> None:
    assert dnf.explained(124, ["Waiting for process with pid 7 to finish."], "x").code == "dnf-timeout"
