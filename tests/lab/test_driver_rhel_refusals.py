"""The real rpm and dnf say what keeps a driver from a host of the RHEL family, and what such a host is."""

from collections.abc import Callable
from typing import Any

import pytest

from rackhand.driver.verdict import verdict
from tests.lab import rpm_repository
from tests.lab.rpm_host import MEMBERS, ROOT, RpmHost
from tests.surveys import wishes

OLD, NEW, NEXT = rpm_repository.VERSIONS
RELEASE = f"{rpm_repository.KERNEL}.x86_64"


def away(rhel: RpmHost, *names: str) -> None:
    """Let repositories be out of reach."""
    for name in names:
        text = rhel.read(f"etc/yum.repos.d/{name}.repo")
        rhel.write(f"etc/yum.repos.d/{name}.repo", text.replace("file:///repositories", "file:///gone"))


def test_another_package_that_would_go_with_the_old_driver_is_a_refusal_before_anything_changed(
    driven: RpmHost,
) -> None:
    driven.run("dnf --assumeyes install cuda-monitor")
    before = driven.installed()
    refused = driven.stage(NEXT)
    assert refused["code"] == "driver-transaction"
    assert "remove cuda-monitor" in refused["what"]
    assert driven.installed() == before


def test_a_kernel_that_would_come_along_is_a_refusal(rhel: RpmHost) -> None:
    refused = rhel.stage(NEW, headers=[])
    assert refused["code"] == "driver-transaction", refused
    assert f"install the kernel kernel-core-{rpm_repository.NEWER_KERNEL}.x86_64" in refused["what"]


@pytest.mark.parametrize(
    ("spoil", "changes", "code", "words"),
    [
        (lambda rhel: away(rhel, "epel"), {}, "repository-unreachable", "epel"),
        (lambda rhel: rhel.run("rm /etc/yum.repos.d/epel.repo"), {}, "package-missing", "dkms"),
        (lambda rhel: None, {"fingerprint": "0" * 40}, "repository-key", "not 0000"),
        (lambda rhel: None, {"repository_url": "file:///gone"}, "repository-unreachable", "rackhand-nvidia"),
        (lambda rhel: None, {"version": "580.1.1"}, "driver-version", f"{OLD}, {NEW}, {NEXT}"),
    ],
)
def test_what_is_missing_is_named_and_nothing_was_changed(
    rhel: RpmHost, spoil: Callable[[RpmHost], object], changes: dict[str, str], code: str, words: str
) -> None:
    spoil(rhel)
    before = rhel.installed()
    refused = rhel.stage(**{"version": NEW, **changes})
    assert refused["code"] == code, refused
    assert words in refused["what"]
    assert rhel.installed() == before
    assert not (rhel.root / "etc/yum.repos.d/rackhand-nvidia.repo").exists()


def test_a_package_that_is_not_signed_by_the_repositorys_key_is_not_installed(
    rhel: RpmHost,
) -> None:
    rhel.run("mkdir /mirror && cp /repositories/nvidia/*.* /mirror/ && rpmsign --delsign /mirror/libnvidia-ml-*.rpm")
    rhel.run("createrepo_c --quiet /mirror")
    refused = rhel.stage(NEW, repository_url="file:///mirror")
    assert refused["code"] == "repository-signature", refused
    assert not [name for name in rhel.installed() if "nvidia" in name]


def test_the_ground_tells_the_kernel_and_its_headers_on_offer(rhel: RpmHost) -> None:
    (rhel.root / "boot").mkdir()
    (rhel.root / f"boot/vmlinuz-{RELEASE}").touch()
    found = rhel.call("driver_facts.facts", secure_boot=False, running=RELEASE)
    assert [(each["release"], each["package"], each["headers"]) for each in found["kernels"]] == [
        (RELEASE, True, False)
    ]
    assert found["headers_offered"] == [f"kernel-devel-{RELEASE}"]
    assert found["listed"]


def test_one_look_at_such_a_host_gives_its_driver_plan(driven: RpmHost) -> None:
    (driven.root / "boot").mkdir()
    (driven.root / f"boot/vmlinuz-{RELEASE}").touch()

    class Session:
        name = "rhel-1"

        def call(self, function: str, within_s: int = 0, **args: Any) -> Any:
            return driven.call(function, **args)

    seen = wishes().survey(Session())
    assert (seen.host.distribution, seen.host.version) == ("rocky", "9.6")
    assert seen.packages.installed["nvidia-driver-cuda"] == f"3:{NEW}-1.el9"
    assert set(seen.packages.held) == MEMBERS
    assert seen.driver_sets.installed.startswith(NEW)
    decided = verdict("rhel-1", seen, wishes(driver_branch="595", driver_version=NEXT).settings)
    assert decided.plan is not None
    assert f"driver packages, all {NEXT}: nvidia-driver-cuda" in "\n".join(decided.plan.words)


def test_the_packages_of_the_distribution_come_by_dnf(rhel: RpmHost) -> None:
    rhel.call("account.prepare", root=ROOT, user="root", packages=["gcc", "glibc-devel"], timeout_s=120)
    assert {"gcc", "glibc-devel"} <= set(rhel.installed())
