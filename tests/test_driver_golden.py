"""What a driver takes on every distribution: plan in words and exact packages, one readable file per release.

To renew the files after looking at the difference: REWRITE_GOLDEN=1 pytest tests/test_driver_golden.py
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rackhand.driver.verdict import Verdict
from rackhand.survey import Survey
from tests.driver_hosts import SYSTEMS, decided, host, set_of

GOLDEN = Path(__file__).parent / "golden" / "driver"
KINDS: dict[str, dict[str, Any]] = {
    "4x L4": {"cards": ("l4",) * 4},
    "8x H100 with NVSwitches": {"cards": ("h100",) * 8, "switched": True},
    "8x B300": {"cards": ("b300",) * 8},
}
OLD, NEW, NEXT = "580.126.20", "580.178.04", "595.91.07"
WISHES: dict[str, dict[str, Any]] = {
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
    for begin, end in ((OLD, NEW), (NEW, NEXT), (NEXT, NEW)):
        wished = {"driver_branch": end.partition(".")[0], "driver_version": end}
        branch = decided(host(system), driver_branch=begin.partition(".")[0])
        if branch.plan is not None and decided(host(system), **wished).plan is not None:
            found = host(system, KINDS["4x L4"]["cards"], installed=set_of(system, begin), loaded=begin)
            yield from _block(f"4x L4, from {begin} to {end}", found, **wished)


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
    yield ""
