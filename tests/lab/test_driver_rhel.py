"""The real rpm and dnf change the driver of a host of the RHEL family, with emulated repositories."""

from tests.lab import rpm_repository
from tests.lab.rpm_host import MEMBERS, RpmHost

OLD, NEW, NEXT = rpm_repository.VERSIONS
RELEASE = f"{rpm_repository.KERNEL}.x86_64"
# A line of dnf's about a package; the minute that it takes begins with it.
WORKS_ON = "grep -q '{name}-3:{version}' /var/log/rackhand/driver-install.log && sleep 2"


def family(rhel: RpmHost) -> set[str]:
    """Return the versions of the driver's packages, without their release."""
    listing = rhel.run("rpm -qa --qf '%{NAME} %{VERSION}\\n'").splitlines()
    return {line.split()[1] for line in listing if "nvidia" in line}


def away(rhel: RpmHost, *names: str) -> None:
    """Let repositories be out of reach."""
    for name in names:
        text = rhel.read(f"etc/yum.repos.d/{name}.repo")
        rhel.write(f"etc/yum.repos.d/{name}.repo", text.replace("file:///repositories", "file:///gone"))


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


def test_locks_of_others_stay(rhel: RpmHost) -> None:
    rhel.write("etc/dnf/plugins/versionlock.list", "# mine\ngcc-0:1.0-1.el9.*\n")
    rhel.stage(NEW)
    rhel.put(NEW)
    assert rhel.read("etc/dnf/plugins/versionlock.list").startswith("# mine\ngcc-0:1.0-1.el9.*\n")


def test_headers_come_beside_those_of_kernels_from_before_and_none_of_these_goes(rhel: RpmHost) -> None:
    rhel.write("etc/dnf/dnf.conf", rhel.read("etc/dnf/dnf.conf").replace("limit=3", "limit=2"))
    rhel.run(f"dnf --assumeyes install kernel-core-{rpm_repository.NEWER_KERNEL} "
             f"kernel-devel-{rpm_repository.NEWER_KERNEL}")  # fmt: skip
    rhel.stage(NEW)
    assert set(rhel.put(NEW)) == MEMBERS
    for release in (rpm_repository.KERNEL, rpm_repository.NEWER_KERNEL):
        assert f"kernel-devel-{release}" in rhel.run("rpm -qa")


def test_what_follows_the_newest_kernel_does_not_go_back_to_the_one_that_runs(rhel: RpmHost) -> None:
    rhel.run("dnf --assumeyes install kernel-devel-matched")
    rhel.stage(NEW)
    assert set(rhel.put(NEW)) == MEMBERS
    assert rhel.installed("kernel-devel-matched") == {"kernel-devel-matched": rpm_repository.NEWER_KERNEL}
    assert f"kernel-devel-{rpm_repository.KERNEL}" in rhel.run("rpm -qa")


def test_a_module_stream_that_somebody_enabled_is_in_nobodys_way(driven: RpmHost) -> None:
    driven.run("dnf --assumeyes --enablerepo=rackhand-nvidia module enable nvidia-driver:580-open")
    assert "nvidia-driver" in driven.run("dnf --enablerepo=rackhand-nvidia module list --enabled")
    assert not driven.stage(NEXT)["why"]
    assert set(driven.put(NEXT)) == MEMBERS
    assert family(driven) == {NEXT}
    assert set(driven.put(NEW)) == MEMBERS
    assert family(driven) == {NEW}


def test_the_proprietary_module_makes_way_for_the_open_one(rhel: RpmHost) -> None:
    rhel.stage(NEW)
    rhel.run("dnf --assumeyes --enablerepo=rackhand-nvidia install kmod-nvidia-latest-dkms-580.95.05 "
             "nvidia-driver-cuda-580.95.05")  # fmt: skip
    assert "kmod-nvidia-latest-dkms" in rhel.installed()
    staged = rhel.stage(NEW)
    assert staged.get("here", "").startswith(OLD), staged
    assert set(rhel.put(NEW)) == MEMBERS
    assert {name for name in rhel.installed() if "nvidia" in name} == MEMBERS


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
