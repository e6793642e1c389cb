"""The real rpm and dnf change the driver of a host of the RHEL family, with emulated repositories."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.lab import rpm_repository
from tests.lab.rpm_host import ROOT, RpmHost

OLD, NEW, NEXT = rpm_repository.VERSIONS
RELEASE = f"{rpm_repository.KERNEL}.x86_64"
# A line of dnf's about a package; the minute that it takes begins with it.
WORKS_ON = "grep -q '{name}-3:{version}' /var/log/rackhand/driver-install.log && sleep 2"
MEMBERS = {
    "kmod-nvidia-open-dkms", "libnvidia-cfg", "libnvidia-ml", "nvidia-driver-cuda", "nvidia-driver-cuda-libs",
    "nvidia-kmod-common", "nvidia-modprobe", "nvidia-persistenced",
}  # fmt: skip


@pytest.fixture(scope="module")
def repositories(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    home = tmp_path_factory.mktemp("rpm")
    return home, rpm_repository.build(home)


@pytest.fixture
def host(repositories: tuple[Path, str], tmp_path: Path) -> Iterator[RpmHost]:
    """Yield a host with a kernel and nothing else; unused repositories can be renamed away in it."""
    home, fingerprint = repositories
    made = RpmHost(tmp_path / "host", home, fingerprint, RELEASE)
    try:
        made.run(f"dnf --quiet --assumeyes install kernel-core-{RELEASE}")
        yield made
    finally:
        made.close()


@pytest.fixture
def driven(host: RpmHost) -> RpmHost:
    """Return the host with the middle version."""
    assert not host.stage(NEW)["why"]
    assert set(host.put(NEW)) == MEMBERS
    return host


def family(host: RpmHost) -> set[str]:
    """Return the versions of the driver's packages, without their release."""
    listing = host.run("rpm -qa --qf '%{NAME} %{VERSION}\\n'").splitlines()
    return {line.split()[1] for line in listing if "nvidia" in line}


def away(host: RpmHost, *names: str) -> None:
    """Let repositories be out of reach."""
    for name in names:
        text = host.read(f"etc/yum.repos.d/{name}.repo")
        host.write(f"etc/yum.repos.d/{name}.repo", text.replace("file:///repositories", "file:///gone"))


def test_a_fresh_install_brings_one_version_with_the_headers_of_the_kernel_and_locks_it(driven: RpmHost) -> None:
    here = driven.installed()
    assert {name for name in here if "nvidia" in name} == MEMBERS
    assert family(driven) == {NEW}
    assert {"dkms", "kernel-devel", "kernel-devel-matched", "python3-dnf-plugin-versionlock"} <= set(here)
    locks = driven.read("etc/dnf/plugins/versionlock.list").split()
    assert f"nvidia-driver-cuda-3:{NEW}-1.el9.*" in locks
    assert len(locks) == len(MEMBERS)
    found = driven.call("gpu.packages", names=["*nvidia*"])
    assert set(found["held"]) == MEMBERS
    assert found["unfinished"] == []


def test_an_upgrade_of_everything_leaves_the_locked_driver_where_it_is(driven: RpmHost) -> None:
    driven.run("dnf --assumeyes --enablerepo=rackhand-nvidia upgrade")
    assert family(driven) == {NEW}


def test_a_branch_changes_and_comes_back_without_any_repository(driven: RpmHost) -> None:
    staged = driven.stage(NEXT)
    assert staged["here"].startswith(NEW)
    assert set(driven.put(NEXT)) == MEMBERS
    assert family(driven) == {NEXT}
    away(driven, "base", "epel", "rackhand-nvidia")
    assert driven.stage(NEW)["here"] == staged["set"]
    assert set(driven.put(NEW)) == MEMBERS
    assert family(driven) == {NEW}
    locks = driven.read("etc/dnf/plugins/versionlock.list")
    assert NEXT not in locks
    assert "dkms" in driven.installed()


def test_doing_it_again_changes_nothing(driven: RpmHost) -> None:
    before = driven.run("dnf history list")
    driven.stage(NEW)
    driven.put(NEW)
    assert driven.run("dnf history list") == before


def test_locks_of_others_stay(host: RpmHost) -> None:
    host.write("etc/dnf/plugins/versionlock.list", "# mine\ngcc-0:1.0-1.el9.*\n")
    host.stage(NEW)
    host.put(NEW)
    assert host.read("etc/dnf/plugins/versionlock.list").startswith("# mine\ngcc-0:1.0-1.el9.*\n")


def test_another_package_that_would_go_with_the_old_driver_is_a_refusal_before_anything_changed(
    driven: RpmHost,
) -> None:
    driven.run("dnf --assumeyes install cuda-monitor")
    before = driven.installed()
    refused = driven.stage(NEXT)
    assert refused["code"] == "driver-transaction"
    assert "remove cuda-monitor" in refused["what"]
    assert driven.installed() == before


def test_a_kernel_that_would_come_along_is_a_refusal(host: RpmHost) -> None:
    refused = host.stage(NEW, headers=[])
    assert refused["code"] == "driver-transaction", refused
    assert f"install the kernel kernel-core-{rpm_repository.NEWER_KERNEL}.x86_64" in refused["what"]


def test_headers_come_beside_those_of_kernels_from_before_and_none_of_these_goes(host: RpmHost) -> None:
    host.write("etc/dnf/dnf.conf", host.read("etc/dnf/dnf.conf").replace("limit=3", "limit=2"))
    host.run(f"dnf --assumeyes install kernel-core-{rpm_repository.NEWER_KERNEL} "
             f"kernel-devel-{rpm_repository.NEWER_KERNEL}")  # fmt: skip
    host.stage(NEW)
    assert set(host.put(NEW)) == MEMBERS
    for release in (rpm_repository.KERNEL, rpm_repository.NEWER_KERNEL):
        assert f"kernel-devel-{release}" in host.run("rpm -qa")


def test_what_follows_the_newest_kernel_does_not_go_back_to_the_one_that_runs(host: RpmHost) -> None:
    host.run("dnf --assumeyes install kernel-devel-matched")
    host.stage(NEW)
    assert set(host.put(NEW)) == MEMBERS
    assert host.installed("kernel-devel-matched") == {"kernel-devel-matched": rpm_repository.NEWER_KERNEL}
    assert f"kernel-devel-{rpm_repository.KERNEL}" in host.run("rpm -qa")


def test_a_module_stream_that_somebody_enabled_is_in_nobodys_way(driven: RpmHost) -> None:
    driven.run("dnf --assumeyes --enablerepo=rackhand-nvidia module enable nvidia-driver:580-open")
    assert "nvidia-driver" in driven.run("dnf --enablerepo=rackhand-nvidia module list --enabled")
    assert not driven.stage(NEXT)["why"]
    assert set(driven.put(NEXT)) == MEMBERS
    assert family(driven) == {NEXT}
    assert set(driven.put(NEW)) == MEMBERS
    assert family(driven) == {NEW}


def test_the_proprietary_module_makes_way_for_the_open_one(host: RpmHost) -> None:
    host.stage(NEW)
    host.run("dnf --assumeyes --enablerepo=rackhand-nvidia install kmod-nvidia-latest-dkms-580.95.05 "
             "nvidia-driver-cuda-580.95.05")  # fmt: skip
    assert "kmod-nvidia-latest-dkms" in host.installed()
    staged = host.stage(NEW)
    assert staged.get("here", "").startswith(OLD), staged
    assert set(host.put(NEW)) == MEMBERS
    assert {name for name in host.installed() if "nvidia" in name} == MEMBERS


def test_members_of_an_older_version_that_a_cut_off_transaction_left_are_taken_away(driven: RpmHost) -> None:
    package = f"/repositories/nvidia/libnvidia-ml-{OLD}-1.el9.x86_64.rpm"
    driven.run(f"rpm --install --nodeps --force --oldpackage {package}")
    assert driven.call("gpu.packages", names=["*"])["unfinished"] == ["libnvidia-ml"]
    driven.stage(NEW)
    assert set(driven.put(NEW)) == MEMBERS
    assert driven.call("gpu.packages", names=["*"])["unfinished"] == []
    assert family(driven) == {NEW}


def test_a_change_that_was_killed_in_the_middle_is_finished_by_the_next_one(driven: RpmHost) -> None:
    driven.stage(NEXT)
    driven.write("slow", "")
    driven.cut_off(NEXT, WORKS_ON.format(name="nvidia-driver-cuda", version=NEXT))
    assert family(driven) == {NEW, NEXT}
    assert driven.call("gpu.packages", names=["*"])["unfinished"]
    (driven.root / "slow").unlink()
    assert set(driven.put(NEXT)) == MEMBERS
    assert family(driven) == {NEXT}
    assert driven.call("gpu.packages", names=["*"])["unfinished"] == []


def test_a_change_that_was_killed_in_the_middle_can_go_back_instead(driven: RpmHost) -> None:
    driven.stage(NEXT)
    driven.write("slow", "")
    driven.cut_off(NEXT, WORKS_ON.format(name="nvidia-driver-cuda", version=NEXT))
    (driven.root / "slow").unlink()
    assert set(driven.put(NEW)) == MEMBERS
    assert family(driven) == {NEW}


def test_a_member_that_somebody_moved_by_hand_is_put_right(driven: RpmHost) -> None:
    driven.run(f"rpm --upgrade --nodeps /repositories/nvidia/libnvidia-ml-{NEXT}-1.el9.x86_64.rpm")
    assert family(driven) == {NEW, NEXT}
    assert "several versions" in driven.stage(NEW)["why"]
    driven.put(NEW)
    assert family(driven) == {NEW}


@pytest.mark.parametrize(
    ("spoil", "changes", "code", "words"),
    [
        (lambda host: away(host, "epel"), {}, "repository-unreachable", "epel"),
        (lambda host: host.run("rm /etc/yum.repos.d/epel.repo"), {}, "package-missing", "dkms"),
        (lambda host: None, {"fingerprint": "0" * 40}, "repository-key", "not 0000"),
        (lambda host: None, {"repository_url": "file:///gone"}, "repository-unreachable", "rackhand-nvidia"),
        (lambda host: None, {"version": "580.1.1"}, "driver-version", f"{OLD}, {NEW}, {NEXT}"),
    ],
)
def test_what_is_missing_is_named_and_nothing_was_changed(
    host: RpmHost, spoil: Callable[[RpmHost], object], changes: dict[str, str], code: str, words: str
) -> None:
    spoil(host)
    before = host.installed()
    refused = host.stage(**{"version": NEW, **changes})
    assert refused["code"] == code, refused
    assert words in refused["what"]
    assert host.installed() == before
    assert not (host.root / "etc/yum.repos.d/rackhand-nvidia.repo").exists()


def test_a_package_that_is_not_signed_by_the_repositorys_key_is_not_installed(
    host: RpmHost,
) -> None:
    host.run("mkdir /mirror && cp /repositories/nvidia/*.* /mirror/ && rpmsign --delsign /mirror/libnvidia-ml-*.rpm")
    host.run("createrepo_c --quiet /mirror")
    refused = host.stage(NEW, repository_url="file:///mirror")
    assert refused["code"] == "repository-signature", refused
    assert not [name for name in host.installed() if "nvidia" in name]


def test_the_ground_tells_the_kernel_and_its_headers_on_offer(host: RpmHost) -> None:
    (host.root / "boot").mkdir()
    (host.root / f"boot/vmlinuz-{RELEASE}").touch()
    found = host.call("driver_facts.facts", secure_boot=False, running=RELEASE)
    assert [(each["release"], each["package"], each["headers"]) for each in found["kernels"]] == [
        (RELEASE, True, False)
    ]
    assert found["headers_offered"] == [f"kernel-devel-{RELEASE}"]
    assert found["listed"]


def test_the_packages_of_the_distribution_come_by_dnf(host: RpmHost) -> None:
    host.call("account.prepare", root=ROOT, user="root", packages=["gcc", "glibc-devel"], timeout_s=120)
    assert {"gcc", "glibc-devel"} <= set(host.installed())
