"""A run is known to be dead only where its own process table says so."""

import os
import subprocess
import sys

import pytest

from rackhand.whereabouts import ended, here


def gone() -> int:
    """Return the number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_process_of_this_machine_that_has_ended_is_dead() -> None:
    assert here()
    assert ended(here(), gone())


@pytest.mark.parametrize("place", ["", "another-boot pid:[1]"])
def test_what_lived_elsewhere_may_live_on(place: str) -> None:
    assert not ended(place, gone())


def test_a_process_that_lives_is_not_dead() -> None:
    assert not ended(here(), os.getpid())


def test_a_lease_that_names_no_process_is_nobodys() -> None:
    assert not ended(here(), 0)
