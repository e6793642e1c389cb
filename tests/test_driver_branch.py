"""Without a wish a working driver keeps its branch, and any other host gets one that it can really have."""

from typing import Any

import pytest

from rackhand.driver import choice
from tests.driver_hosts import decided, host
from tests.surveys import settings

OLD_580, OLD_595, OLD_570, NFB_610 = "580.126.20", "595.71.05", "570.158.01", "610.57.04"


def chosen(system: str, *cards: str, loaded: str | None = None, **wished: Any) -> str:
    return choice.branch(host(system, cards or ("h100",), loaded=loaded), settings(**wished))


@pytest.mark.parametrize(
    ("system", "source", "branch"),
    [
        ("debian-12", "nvidia", "580"),
        ("debian-13", "nvidia", "595"),
        ("ubuntu-22.04", "nvidia", "580"),
        ("ubuntu-24.04", "nvidia", "580"),
        ("ubuntu-26.04", "nvidia", "595"),
        ("ubuntu-26.04", "distribution", "580"),
    ],
)
def test_a_bare_host_gets_the_best_branch_that_its_release_has(system: str, source: str, branch: str) -> None:
    assert chosen(system, driver_source=source) == branch
    verdict = decided(host(system), driver_source=source)
    assert verdict.problems == ()
    assert verdict.plan is not None
    assert verdict.plan.packages is not None
    assert verdict.plan.packages.branch == branch
    assert verdict.plan.warnings == ()


@pytest.mark.parametrize(("loaded", "branch"), [(OLD_580, "580"), (OLD_595, "595"), (NFB_610, "610")])
def test_a_working_driver_keeps_its_branch_and_its_version(loaded: str, branch: str) -> None:
    found = host("debian-12", loaded=loaded)
    assert choice.branch(found, settings()) == branch
    plan = decided(found).plan
    assert plan is not None
    assert plan.version == loaded


def test_a_working_driver_that_the_wished_engine_cannot_use_is_left_for_one_that_it_can() -> None:
    assert chosen("debian-12", loaded=OLD_570) == "580"


def test_a_driver_that_does_not_work_keeps_nothing() -> None:
    broken = host("debian-12", loaded=OLD_595, driver__library=None)
    assert choice.branch(broken, settings()) == "580"


def test_a_gpu_that_needs_a_newer_branch_decides_for_its_whole_host() -> None:
    assert chosen("debian-12", "h100", "future") == "620"
    assert chosen("debian-12", "b300") == "580"


def test_a_wish_is_followed_by_branch_or_by_version_alone() -> None:
    assert chosen("debian-12", loaded=OLD_580, driver_branch="595") == "595"
    assert chosen("debian-12", loaded=OLD_580, driver_version=OLD_595) == "595"


@pytest.mark.parametrize(
    ("system", "wished", "code"),
    [
        ("debian-13", {"driver_source": "distribution"}, "unsupported-distribution"),
        ("debian-13", {"driver_branch": "580"}, "unsupported-branch"),
        ("debian-12", {"driver_branch": "575"}, "driver-version"),
    ],
)
def test_where_nothing_can_be_had_the_refusal_says_what(system: str, wished: dict[str, Any], code: str) -> None:
    (problem,) = decided(host(system), **wished).problems
    assert problem.code == code
    assert problem.next_step


def test_a_branch_of_which_no_version_is_known_installs_the_one_that_is_named() -> None:
    plan = decided(host("debian-12"), driver_branch="575", driver_version="575.57.08").plan
    assert plan is not None
    assert plan.version == "575.57.08"
