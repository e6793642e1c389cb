"""What is decided for hosts of the RHEL family, where it differs from apt's."""

import pytest

from rackhand.catalog import DriverHost, driver_packages
from tasks import driver
from tests.driver_hosts import decided, host, kernel
from tests.surveys import settings

RUNS, COMES = "5.14.0-570.62.1.el9_6.x86_64", "5.14.0-611.5.1.el9_7.x86_64"
FUSION = {"akmod-nvidia": "3:580.105.08-1.fc41", "xorg-x11-drv-nvidia-cuda": "3:580.105.08-1.fc41"}
SUFFIX = "CDF6BA43"


def test_both_kernels_get_their_headers_and_the_next_one_what_brings_those_of_later_kernels() -> None:
    two = [kernel(RUNS, next=False), kernel(COMES, running=False)]
    names = [f"kernel-devel-{release}" for release in (RUNS, COMES)]
    plan = decided(host("rhel-9.6", kernels=two, headers_offered=names)).plan
    assert plan is not None
    assert plan.headers == (*names, f"kernel-devel-matched-{COMES}")


def test_a_next_kernel_without_headers_is_refused_by_the_name_of_what_it_lacks() -> None:
    two = [kernel(RUNS, next=False, headers=True), kernel(COMES, running=False)]
    (problem,) = decided(host("rhel-9.6", kernels=two, headers_offered=[])).problems
    assert problem.code == "kernel-headers"
    assert f"kernel-devel-{COMES} is neither installed nor on offer" in problem.what


def test_packages_of_rpm_fusion_are_refused_with_the_command_that_removes_them() -> None:
    (problem,) = decided(host("rhel-9.6", installed=FUSION)).problems
    assert problem.code == "driver-origin"
    assert "dnf remove" in problem.next_step


@pytest.mark.parametrize("release", ["9", "9.0", "9.6"])
def test_minor_releases_share_the_directory_of_their_major_one(release: str) -> None:
    found = driver_packages(DriverHost(distribution="rocky", version=release), "580")
    assert found.repository_url.endswith("/rhel9/x86_64")
    assert (found.distribution, found.manager) == ("Rocky Linux 9", "dnf")


@pytest.mark.parametrize(
    ("fingerprint", "file"),
    [("0" * 32 + SUFFIX, f"{SUFFIX}.pub"), ("0" * 32 + "ABCDEF01", "abcdef01.pub")],
)
def test_a_named_key_is_looked_for_under_nvidias_name_where_that_is_its_own(fingerprint: str, file: str) -> None:
    found = driver_packages(DriverHost(distribution="almalinux", version="10.1"), "580")
    assert driver._key_url(found, settings(driver_key_fingerprint=fingerprint)).endswith(f"/rhel10/x86_64/{file}")
