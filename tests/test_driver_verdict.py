"""The verdict on a driver joins all that decides about it; each reason against one names the fact and the way out."""

from collections.abc import Mapping
from typing import Any

import pytest

from rackhand.catalog import Origin
from rackhand.driver.origin import origins
from rackhand.outcome import Problem
from rackhand.plan import DriverPlan
from rackhand.settings import load
from rackhand.survey import Survey
from tests.driver_hosts import decided, host, kernel, ready_built, set_of
from tests.driver_states import servers
from tests.surveys import state

OLD, NEW, NEXT = "580.126.20", "580.178.04", "595.91.07"
UBUNTUS = {
    "nvidia-headless-no-dkms-580-server-open": "580.126.09-0ubuntu0.24.04.2",
    "libnvidia-compute-580-server": "580.126.09-0ubuntu0.24.04.2",
    "linux-modules-nvidia-580-server-open-generic": "6.8.0-90.91",
}
DEBIANS = {
    "nvidia-alternative": "535.261.03-1~deb12u1",
    "nvidia-open-kernel-dkms": "535.261.03-1~deb12u1",
    "libcuda1": "535.261.03-1~deb12u1",
}


def planned(found: Survey, **wished: Any) -> DriverPlan:
    verdict = decided(found, **wished)
    assert verdict.problems == ()
    assert verdict.plan is not None
    return verdict.plan


def refused(found: Survey, **wished: Any) -> Problem:
    """Return the one problem of a host; it names the host and a way out."""
    (problem,) = decided(found, **wished).problems
    assert problem.where == "gpu-1"
    assert problem.next_step
    return problem


@pytest.mark.parametrize(
    ("distribution", "packages", "whose"),
    [
        ("debian", {"nvidia-kernel-open-dkms": "580.126.20-1", "nvidia-driver-cuda": "580.126.20-1"}, "nvidia"),
        ("debian", DEBIANS, "distribution"),
        ("ubuntu", {"libnvidia-compute-580": "580.126.20-1ubuntu1"}, "nvidia"),
        ("ubuntu", {"libnvidia-compute-580": "580.65.06-0ubuntu1"}, "nvidia"),
        ("ubuntu", {"libnvidia-compute-580": "580.126.09-0ubuntu0.24.04.2"}, "distribution"),
        ("ubuntu", {"libnvidia-compute": "595.71.05-1ubuntu1", "nvidia-dkms-open": "595.71.05-1ubuntu1"}, "nvidia"),
        ("ubuntu", {"libnvidia-compute-595": "595.71.05-0ubuntu3"}, "distribution"),
        ("ubuntu", UBUNTUS, "distribution"),
        ("ubuntu", {"nvidia-fabricmanager": "580.126.20-1"}, "nvidia"),
        ("debian", {"nvidia-modprobe": "535.161.07-1~deb12u1", "nvidia-persistenced": "535.171.04-1~deb12u1"}, None),
        ("debian", {"nvidia-driver": "580.126.20-1"}, None),
        ("arch", {"nvidia-open": "580.126.20-1"}, None),
    ],
)
def test_names_and_versions_that_only_one_of_the_two_has_tell_who_packaged_a_driver(
    distribution: str, packages: Mapping[str, str], whose: str | None
) -> None:
    assert list(origins(packages, distribution)) == ([Origin(whose)] if whose else [])


@pytest.mark.parametrize(
    ("system", "installed", "wished", "stay"),
    [
        ("debian-12", DEBIANS, {}, False),
        ("ubuntu-24.04", UBUNTUS, {}, True),
        ("ubuntu-24.04", {"nvidia-dkms-580-open": f"{OLD}-1ubuntu1"}, {"driver_source": "distribution"}, True),
    ],
)
def test_packages_of_the_other_origin_are_refused_with_the_ways_out(
    system: str, installed: dict[str, str], wished: dict[str, Any], stay: bool
) -> None:
    problem = refused(host(system, installed=installed), **wished)
    assert problem.code == "driver-origin"
    assert next(iter(sorted(installed))) in problem.what
    assert ("set driver_source =" in problem.next_step) is stay
    assert "purge" in problem.next_step


def test_the_same_origin_is_upgraded_within_its_own_packages() -> None:
    plan = planned(host("ubuntu-24.04", installed=UBUNTUS, loaded="580.126.09"), driver_source="distribution",
                   driver_version=NEW)  # fmt: skip
    assert plan.packages is not None
    assert plan.packages.source is Origin.DISTRIBUTION
    assert plan.removes == ()


def test_a_helper_that_has_numbers_of_its_own_does_not_go_with_the_driver() -> None:
    installed = {**set_of("ubuntu-24.04", OLD), "nvidia-prime": "0.8.17.2", "nvidia-settings": "510.47.03-0ubuntu4"}
    plan = planned(host("ubuntu-24.04", installed=installed, loaded=OLD), driver_version=NEXT)
    assert {*plan.removes} == {"libnvidia-compute-580", "nvidia-dkms-580-open", "nvidia-utils-580"}


def test_what_follows_kernels_of_the_same_branch_is_not_among_what_goes() -> None:
    of_kernels = {
        "linux-modules-nvidia-580-server-open-6.8.0-139-generic": "6.8.0-139.139",
        "linux-objects-nvidia-580-server-open-6.8.0-139-generic": "6.8.0-139.139",
        "linux-signatures-nvidia-6.8.0-139-generic": "6.8.0-139.139",
    }
    found = host("ubuntu-24.04", installed={**UBUNTUS, **of_kernels}, loaded="580.126.09")
    assert planned(found, driver_source="distribution", driver_version=NEW).removes == ()
    newer = planned(found, driver_source="distribution", driver_version=NEXT).removes
    assert set(newer) == {*UBUNTUS, *of_kernels} - {"linux-signatures-nvidia-6.8.0-139-generic"}


SECURE: dict[str, Any] = {"host__secure_boot": True}


@pytest.mark.parametrize(
    ("changes", "wished", "refuses"),
    [
        ({}, {}, True),
        ({"key_enrolled": False}, {}, True),
        ({"key_enrolled": True}, {}, False),
        ({}, {"driver_source": "distribution"}, False),
        ({}, {"driver_manage": False, "driver_branch": "580"}, False),
    ],
    ids=["unknown", "not enrolled", "enrolled", "signed modules", "not managed"],
)
def test_secure_boot_stops_a_module_that_nobody_will_load(
    changes: dict[str, Any], wished: dict[str, Any], refuses: bool
) -> None:
    loaded = OLD if not wished.get("driver_manage", True) else None
    verdict = decided(host("ubuntu-24.04", loaded=loaded, **SECURE, **changes), **wished)
    assert [problem.code for problem in verdict.problems] == (["secure-boot"] if refuses else [])


def test_secure_boot_names_three_ways_out_where_signed_modules_exist_and_two_where_not() -> None:
    ubuntu, debian = (refused(host(system, **SECURE)) for system in ("ubuntu-24.04", "debian-12"))
    for words in ("driver_source = 'distribution'", "mokutil --import", "turn Secure Boot off"):
        assert words in ubuntu.next_step
    assert "driver_source" not in debian.next_step
    assert "update-secureboot-policy --new-key" in ubuntu.next_step
    assert "--import /var/lib/dkms/mok.pub" in debian.next_step


def test_a_driver_that_loads_under_secure_boot_is_upgraded_with_the_same_key() -> None:
    found = host("ubuntu-24.04", installed=set_of("ubuntu-24.04", OLD), loaded=OLD, **SECURE)
    planned(found, driver_version=NEW)
    known = host("ubuntu-24.04", installed=set_of("ubuntu-24.04", OLD), loaded=OLD, key_enrolled=False, **SECURE)
    assert refused(known, driver_version=NEW).code == "secure-boot"


RUNNING, COMING = "6.1.0-40-amd64", "6.1.0-41-amd64"


def two_kernels(**coming: Any) -> list[dict[str, Any]]:
    return [
        kernel(RUNNING, next=False, headers=True),
        kernel(COMING, "amd64", running=False, **coming),
    ]


def test_a_kernel_that_boots_next_without_headers_is_refused_before_it_boots_without_a_driver() -> None:
    problem = refused(host("debian-12", kernels=two_kernels(), headers_offered=[]))
    assert problem.code == "kernel-headers"
    assert f"linux-headers-{COMING}" in problem.what
    assert "boots next" in problem.what


@pytest.mark.parametrize(
    "changes",
    [
        {"kernels": two_kernels(headers=True), "headers_offered": []},
        {"kernels": two_kernels(), "headers_offered": [f"linux-headers-{COMING}"]},
        {"kernels": two_kernels(), "headers_offered": [], "listed": False},
        {"kernels": two_kernels(package=False), "headers_offered": []},
    ],
    ids=["there", "on offer", "no package lists yet", "a kernel of one's own"],
)
def test_headers_that_are_there_or_can_come_are_no_reason(changes: dict[str, Any]) -> None:
    planned(host("debian-12", **changes))


def test_headers_follow_the_kernels_and_what_will_follow_them() -> None:
    both = planned(host("debian-12", kernels=two_kernels(headers=True)))
    assert both.headers == (f"linux-headers-{RUNNING}", f"linux-headers-{COMING}", "linux-headers-amd64")
    assert planned(host("debian-12-cloud")).headers[-1] == "linux-headers-cloud-amd64"
    assert planned(host("ubuntu-22.04")).headers[-1] == "linux-headers-generic-hwe-22.04"


@pytest.mark.parametrize(
    ("headers", "offered", "cure"),
    [
        (True, [], "(dkms autoinstall -k "),
        (False, [f"linux-headers-{COMING}"], f"(apt-get install linux-headers-{COMING} && dkms autoinstall -k "),
        (False, [], f"(linux-headers-{COMING} is neither installed nor on offer"),
    ],
)
def test_a_driver_that_a_next_kernel_would_end_without_is_told_with_the_command_that_brings_it(
    headers: bool, offered: list[str], cure: str
) -> None:
    here, kernels = set_of("debian-12", NEW), two_kernels(headers=headers)
    found = host("debian-12", installed=here, loaded=NEW, kernels=kernels, headers_offered=offered)
    (warning,) = planned(found).warnings
    assert cure in warning


def test_a_kernel_of_ones_own_needs_the_headers_that_it_was_built_with() -> None:
    problem = refused(host("debian-12", kernels=two_kernels(package=False, image=True), headers_offered=[]))
    assert problem.code == "kernel-headers"
    assert f"/lib/modules/{COMING}/build" in problem.next_step
    planned(host("debian-12", kernels=two_kernels(package=False, image=True, headers=True), headers_offered=[]))


SIGNED: dict[str, Any] = {"driver_source": "distribution"}
UBUNTU_COMING = "6.8.0-101-generic"
BOTH = [kernel("6.8.0-90-generic", next=False), kernel(UBUNTU_COMING, "generic", running=False)]
OF_COMING = f"linux-modules-nvidia-580-server-open-{UBUNTU_COMING}"


def test_a_kernel_that_the_distribution_has_no_module_for_yet_is_refused_before_it_boots() -> None:
    offered = [*ready_built("6.8.0-90-generic", "generic"), OF_COMING.replace("580", "595")]
    problem = refused(host("ubuntu-24.04", kernels=BOTH, modules_offered=offered), **SIGNED)
    assert problem.code == "kernel-module"
    assert OF_COMING in problem.what
    assert "boots next" in problem.what


def test_kernels_for_virtual_machines_take_the_modules_of_generic_ones() -> None:
    virtual = [kernel("6.8.0-90-generic", "virtual")]
    plan = planned(host("ubuntu-24.04", kernels=virtual), **SIGNED)
    assert plan.packages is not None
    assert plan.packages.beside == ("linux-modules-nvidia-580-server-open-generic",)
    newer = [kernel("6.14.0-37-generic", "virtual-hwe-24.04")]
    problem = refused(host("ubuntu-24.04", kernels=newer), **SIGNED)
    assert "linux-modules-nvidia-580-server-open-generic-hwe-24.04" in problem.what


def test_a_kind_of_kernel_that_the_distribution_builds_no_modules_for_is_refused() -> None:
    problem = refused(host("ubuntu-24.04", kernels=[kernel("6.8.0-1040-kvm", "kvm")]), **SIGNED)
    assert problem.code == "kernel-flavour"
    assert "there is no linux-modules-nvidia-580-server-open-kvm" in problem.what


@pytest.mark.parametrize(
    "changes",
    [{"modules_offered": ready_built(UBUNTU_COMING, "generic")}, {"modules_offered": [], "listed": False}],
    ids=["on offer", "no package lists yet"],
)
def test_ready_built_modules_come_for_every_kernel_of_the_distribution_that_is_here(changes: dict[str, Any]) -> None:
    plan = planned(host("ubuntu-24.04", kernels=BOTH, **changes), **SIGNED)
    assert plan.headers == ("linux-modules-nvidia-580-server-open-6.8.0-90-generic", OF_COMING)
    assert any(OF_COMING in line for line in plan.words)


def test_a_kernel_that_came_up_without_its_ready_built_module_is_given_it_and_needs_no_reboot() -> None:
    runs = [kernel(UBUNTU_COMING, "generic")]
    offered = ready_built(UBUNTU_COMING, "generic")
    ubuntu = {"installed": servers("ubuntu-24.04", NEW), "kernels": runs, "modules_offered": offered}
    plan = planned(host("ubuntu-24.04", driver__library=NEW, **ubuntu), **SIGNED)
    assert OF_COMING in plan.needs
    assert plan.words[0] == f"driver {NEW}: install, pin and hold; load it"
    assert any(OF_COMING in line for line in plan.words)


def test_a_working_driver_is_left_alone_for_the_module_of_the_next_kernel() -> None:
    runs = [kernel("6.8.0-90-generic", "generic", module=NEW, next=False), BOTH[1]]
    ubuntu = {"installed": servers("ubuntu-24.04", NEW), "modules_offered": ready_built(UBUNTU_COMING, "generic")}
    plan = planned(host("ubuntu-24.04", loaded=NEW, kernels=runs, **ubuntu), **SIGNED)
    assert plan.words == (f"driver {NEW}: installed and loaded",)
    assert f"apt-get install {OF_COMING}" in plan.warnings[0]


def test_ready_built_modules_need_a_kernel_that_a_package_follows() -> None:
    odd = host("ubuntu-24.04", kernels=[kernel("6.8.0-90-generic")])
    problem = refused(odd, driver_source="distribution")
    assert problem.code == "kernel-flavour"
    assert "6.8.0-90-generic" in problem.what
    planned(odd)


def places(**free: int) -> list[dict[str, Any]]:
    """Return disks by path, each of its own."""
    return [
        {"path": f"/{name}" if name != "root" else "/", "device": number, "free_mib": mib}
        for number, (name, mib) in enumerate(free.items())
    ]


def test_a_full_boot_partition_is_refused_with_what_is_missing() -> None:
    problem = refused(host("debian-12", places=places(root=9_000, boot=100, usr=9_000, var=9_000)))
    assert problem.code == "driver-space"
    assert "150 MiB on the disk of /boot, and 100 MiB are free" in problem.what
    assert "free 50 MiB there" in problem.next_step


def test_places_of_one_disk_are_billed_together_and_only_for_a_change() -> None:
    one = [{"path": path, "device": 1, "free_mib": 3_000} for path in ("/", "/boot", "/usr", "/var")]
    problem = refused(host("debian-12", places=one))
    assert "3,650 MiB on the disk of /boot, /usr, /var, and 3,000 MiB" in problem.what
    planned(host("debian-12", places=one, installed=set_of("debian-12", NEW), loaded=NEW), driver_version=NEW)


URL = "https://developer.download.nvidia.com/compute/cuda/repos/debian12/x86_64"


@pytest.mark.parametrize(
    ("source", "conflicts"),
    [
        (
            {"file": "/etc/apt/sources.list.d/cuda-debian12-x86_64.list", "uri": URL, "suite": "/", "key": "/k.gpg"},
            True,
        ),
        ({"file": "/etc/apt/sources.list.d/zz.list", "uri": URL, "suite": "/", "key": ""}, True),
        ({"file": "/etc/apt/sources.list", "uri": URL, "suite": "/", "key": ""}, False),
        (
            {"file": "/etc/apt/sources.list.d/cuda.list", "uri": URL.replace("12", "11"), "suite": "/", "key": "k"},
            False,
        ),
    ],
    ids=["another key", "no key, read after ours", "no key, read before ours", "another repository"],
)
def test_a_second_entry_of_the_repository_with_another_key_is_refused_by_its_file(
    source: dict[str, str], conflicts: bool
) -> None:
    problems = decided(host("debian-12", sources=[source])).problems
    assert [problem.code for problem in problems] == (["repository-conflict"] if conflicts else [])
    assert all(source["file"] in problem.next_step for problem in problems)


@pytest.mark.parametrize(
    ("packages", "pin", "priority", "keeps_away"),
    [
        ("nvidia-*", "release *", -1, True),
        ("*", "origin developer.download.nvidia.com", -1, True),
        ("nvidia-* libcuda1", "version 535.*", 1_001, True),
        ("nvidia-*", "version 595.71.05-*", 1_000, False),
        ("*", "origin deb.nodesource.com", -1, False),
        ("nodejs", "origin deb.nodesource.com", -1, False),
    ],
)
def test_only_preferences_that_keep_the_driver_away_are_a_reason(
    packages: str, pin: str, priority: int, keeps_away: bool
) -> None:
    entry = {"file": "/etc/apt/preferences.d/own", "packages": packages, "pin": pin, "priority": priority}
    problems = decided(host("debian-12", preferences=[entry])).problems
    assert [problem.code for problem in problems] == (["driver-pinned"] if keeps_away else [])
    assert all("/etc/apt/preferences.d/own" in problem.what for problem in problems)


def test_a_partial_set_is_named_and_completed() -> None:
    mixed = {**set_of("debian-12", NEW), "nvidia-persistenced": f"{OLD}-1"}
    plan = planned(host("debian-12", installed=mixed, loaded=NEW), driver_version=NEW)
    assert plan.words[0] == f"driver {NEW}: install, pin and hold (loaded now: {NEW})"
    assert "driver packages that do not fit the others now: nvidia-persistenced" in plan.words


def test_a_fabric_manager_of_another_version_is_a_change_though_the_driver_is_right() -> None:
    cards = ("h100",) * 8
    wanted = planned(host("debian-12", cards, switched=True), driver_version=NEW)
    assert wanted.packages is not None
    whole = {name: f"{NEW}-1" for name in wanted.packages.install}
    behind = {**whole, "nvidia-fabricmanager": f"{OLD}-1"}
    done, odd = (
        planned(host("debian-12", cards, switched=True, installed=each, loaded=NEW), driver_version=NEW)
        for each in (whole, behind)
    )
    assert done.words == (f"driver {NEW}: installed and loaded",)
    assert any("nvidia-fabricmanager" in line and "do not fit" in line for line in odd.words)


@pytest.mark.parametrize(
    ("system", "cards", "wished", "gone"),
    [
        ("debian-12", "b200", {}, "nvlsm"),
        ("ubuntu-24.04", "h100", {"driver_source": "distribution"}, "linux-modules-nvidia-580-server-open-generic"),
    ],
)
def test_what_stands_beside_a_set_and_is_gone_is_put_back_though_every_member_is_right(
    system: str, cards: str, wished: dict[str, Any], gone: str
) -> None:
    wished = {**wished, "driver_version": NEW}
    wanted = planned(host(system, (cards,) * 8), **wished)
    assert wanted.packages is not None
    here = dict.fromkeys((*wanted.packages.install, *wanted.packages.beside), f"{NEW}-0ubuntu0.24.04.1")
    whole, odd = (
        planned(host(system, (cards,) * 8, installed=each, loaded=NEW), **wished)
        for each in (here, {name: version for name, version in here.items() if name != gone})
    )
    assert whole.words == (f"driver {NEW}: installed and loaded",)
    assert f"driver packages that do not fit the others now: {gone}" in odd.words


def test_the_proprietary_module_makes_way_and_is_named_among_what_goes() -> None:
    installed = {"nvidia-driver-cuda": f"{OLD}-1", "nvidia-kernel-dkms": f"{OLD}-1"}
    found = host("debian-12", installed=installed, loaded=OLD, driver__flavour="proprietary")
    plan = planned(found, driver_version=NEW)
    assert plan.removes == ("nvidia-kernel-dkms",)
    assert "driver: the proprietary module makes way for the open one" in plan.words


def test_servers_that_stop_for_the_driver_are_named_only_when_it_changes() -> None:
    unit = {
        "name": "llama-0",
        "active": "active",
        "sub": "running",
        "enabled": True,
        "restarts": 0,
        "result": "success",
    }
    serving = {"state": state(instances=[{**unit, "pid": 7, "running_config": "abc"}])}
    found = host(
        "debian-12",
        installed=set_of("debian-12", OLD),
        loaded=OLD,
        **{"state__instances": serving["state"]["instances"]},
    )
    assert planned(found, driver_version=NEW).stops == ("vllm@llama-0", "rackhand-hardware", "nvidia-persistenced")
    assert planned(found, driver_version=OLD).stops == ()


def test_an_interrupted_dpkg_is_told_and_no_reason() -> None:
    found = host("debian-12", packages__unfinished=["libc6"])
    assert any("dpkg was cut off: libc6" in line for line in planned(found).words)


@pytest.mark.parametrize(
    ("branch", "now", "said"),
    [
        ("580", 1_796_000_000.0, ""),
        ("610", 1_796_000_000.0, "support ended on 2026-08-31"),
        ("610", 0.0, ""),
        ("615", 0.0, "new-feature branch"),
    ],
)
def test_a_branch_that_is_not_for_fleets_is_warned_of(branch: str, now: float, said: str) -> None:
    warnings = planned(host("debian-12", state__now=now), driver_branch=branch).warnings
    assert [said in line for line in warnings] == ([True] if said else [])


def test_an_own_key_and_mirror_make_no_sense_with_the_distributions_packages() -> None:
    data = {"model_name": "m", "model_path": "p", "driver_source": "distribution", "driver_repository_url": "http://x"}
    with pytest.raises(Exception, match="driver_repository_url: driver_source = 'distribution' takes"):
        load(data, "gpu-1")
