"""A host on which rackhand managed the driver before says what still keeps it, to whoever is to do so from now on."""

from pathlib import Path
from typing import Any

import pytest

from rackhand.driver import handover
from rackhand.outcome import Problem
from rackhand.remote import driver_facts
from rackhand.survey import Survey
from tests.driver_hosts import host
from tests.driver_states import NEW, servers
from tests.surveys import settings

PIN, UNATTENDED = "/etc/apt/preferences.d/rackhand-nvidia", "/etc/apt/apt.conf.d/51rackhand-nvidia"
REPOSITORY = "/etc/yum.repos.d/rackhand-nvidia.repo"
METAS = ("linux-generic", "linux-headers-generic", "linux-image-generic")


def managed(system: str, installed: dict[str, str], *held: str, ours: tuple[str, ...]) -> Survey:
    return host(system, installed=installed, loaded=NEW, packages__held=[*installed, *held], ours=ours)


def told(found: Survey, **wished: Any) -> list[Problem]:
    return list(handover.warnings("gpu-1", found, settings(**{"driver_manage": False, **wished})))


def test_files_and_holds_that_are_left_are_named_with_the_commands_that_remove_them() -> None:
    found = managed("debian-12", {"libcuda1": f"{NEW}-1", "nvidia-smi": f"{NEW}-1"}, "vim", ours=(PIN, UNATTENDED))
    (problem,) = told(found)
    assert problem.code == "driver-still-kept"
    assert f"{PIN}, {UNATTENDED}, and libcuda1, nvidia-smi on hold" in problem.what
    assert problem.next_step.endswith(f": rm {PIN} {UNATTENDED} && apt-mark unhold libcuda1 nvidia-smi")


def test_kernels_that_were_held_for_ready_built_modules_are_named_too() -> None:
    (problem,) = told(managed("ubuntu-24.04", servers("ubuntu-24.04", NEW), *METAS, ours=(PIN,)))
    assert all(f" {name}" in problem.next_step for name in METAS)
    (problem,) = told(managed("debian-12", {"libcuda1": f"{NEW}-1"}, *METAS, ours=(PIN,)))
    assert not any(name in problem.next_step for name in METAS), "they are on hold for somebody's own reasons"


def test_on_the_rhel_family_it_is_version_locks_that_go() -> None:
    (problem,) = told(managed("rhel-9.6", {"libnvidia-ml": f"3:{NEW}-1.el9"}, ours=(REPOSITORY,)))
    assert problem.next_step.endswith(f": rm {REPOSITORY} && dnf versionlock delete libnvidia-ml")


def test_nothing_is_said_where_nothing_is_left_or_rackhand_manages() -> None:
    installed = {"libcuda1": f"{NEW}-1"}
    assert told(managed("debian-12", installed, ours=())) == []
    assert told(managed("debian-12", installed, ours=(PIN,)), driver_manage=True) == []


@pytest.mark.parametrize("path", [PIN, UNATTENDED, REPOSITORY])
def test_our_files_are_found_on_the_host(tmp_path: Path, path: str) -> None:
    assert driver_facts.facts(None, str(tmp_path))["ours"] == []
    file = tmp_path / path[1:]
    file.parent.mkdir(parents=True)
    file.touch()
    assert driver_facts.facts(None, str(tmp_path))["ours"] == [path]
