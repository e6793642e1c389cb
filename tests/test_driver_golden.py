"""What a driver takes on every distribution: plan in words and exact packages, one readable file per release.

To renew the files after looking at the difference: REWRITE_GOLDEN=1 pytest tests/test_driver_golden.py
"""

import os
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from rackhand.driver.verdict import Verdict
from rackhand.survey import Survey
from tests.driver_hosts import SYSTEMS, decided, host
from tests.driver_states import nvidias, servers

GOLDEN = Path(__file__).parent / "golden" / "driver"
KINDS: dict[str, dict[str, Any]] = {
    "4x L4": {"cards": ("l4",) * 4},
    "8x H100 with NVSwitches": {"cards": ("h100",) * 8, "switched": True},
    "8x B200": {"cards": ("b200",) * 8},
    "4x GB200": {"cards": ("gb200",) * 4, "host__architecture": "aarch64"},
}
CHANGES = {
    "in branch 580": ("580.126.20", "580.178.04"),
    "from 580 to the other names of 595": ("580.178.04", "595.91.07"),
    "back from 595": ("595.91.07", "580.178.04"),
    "in branch 595": ("595.71.05", "595.91.07"),
}
WHOSE = {"nvidia": "NVIDIA", "distribution": "the distribution"}
WISHES: dict[str, dict[str, Any]] = {
    "no wish": {},
    "580 of NVIDIA": {"driver_branch": "580"},
    "595 of NVIDIA": {"driver_branch": "595"},
    "580 of the distribution": {"driver_branch": "580", "driver_source": "distribution"},
    "595 of the distribution": {"driver_branch": "595", "driver_source": "distribution"},
}


@pytest.mark.parametrize("system", SYSTEMS)
def test_every_release_gets_the_drivers_that_an_operator_read_and_approved(system: str) -> None:
    said = "\n".join(_page(system))
    path = GOLDEN / f"{system}.txt"
    if os.environ.get("REWRITE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(said)
    assert said == path.read_text()


def test_no_golden_file_is_left_of_a_release_that_is_gone() -> None:
    assert {path.stem for path in GOLDEN.iterdir()} == set(SYSTEMS)


def _page(system: str) -> Iterator[str]:
    for kind, shape in KINDS.items():
        for wish, wished in WISHES.items():
            yield from _block(f"{kind}, no driver, {wish}", host(system, **shape), **wished)
    for change, (begin, end) in CHANGES.items():
        for source, kind in product(("nvidia", "distribution"), ("4x L4", "8x H100 with NVSwitches")):
            before = _installed(system, kind, begin, source)
            wished = {"driver_version": end, "driver_source": source}
            if before and _planned(system, kind, end, source):
                found = host(system, **KINDS[kind], installed=before, loaded=begin)
                yield from _block(f"{kind}, {change}, packages of {WHOSE[source]}", found, **wished)


def _planned(system: str, kind: str, version: str, source: str) -> tuple[str, ...]:
    """Return the members of a set that a bare host would get; none where it can have none."""
    plan = decided(host(system, **KINDS[kind]), driver_version=version, driver_source=source).plan
    return plan.packages.install if plan is not None and plan.packages is not None else ()


def _installed(system: str, kind: str, version: str, source: str) -> dict[str, str]:
    """Return what dpkg lists where such a set is installed, with all that came along."""
    members = _planned(system, kind, version, source)
    if not members:
        return {}
    origin = servers if source == "distribution" else nvidias
    here = origin(system, version)
    return {**here, **dict.fromkeys((name for name in members if name not in here), next(iter(here.values())))}


def _block(title: str, found: Survey, **wished: Any) -> Iterator[str]:
    verdict: Verdict = decided(found, **wished)
    yield title
    yield from (f"  {problem.code}: {problem.what}; do: {problem.next_step}" for problem in verdict.problems)
    if verdict.plan is not None and not verdict.problems:
        packages = verdict.plan.packages
        assert packages is not None
        yield from (f"  {line}" for line in verdict.plan.words)
        yield f"  from: {packages.repository_url or 'the sources of the host'} {packages.key_fingerprint}".rstrip()
        yield f"  services: {', '.join(packages.services)}"
        yield from (f"  warning: {line}" for line in verdict.plan.warnings)
    yield ""
