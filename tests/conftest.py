"""What holds for all tests: tools are there, a test that did not run is a failure, and a proof needs practice hosts."""

import os
from collections.abc import Generator

import pytest
from hypothesis import settings

from rackhand.lab import require

# Set in CI: a run that has tests of these kinds, of which none passed, has proved nothing.
PROOFS = ("lab", "engine") if os.environ.get("RACKHAND_REQUIRE_LAB") else ()
passed: set[str] = set()

# What every run tries of each property; `--hypothesis-profile thorough` looks where nobody has looked before.
settings.register_profile("usual", max_examples=50, deadline=None)
settings.register_profile("thorough", max_examples=2000, deadline=None)
settings.load_profile("usual")


def pytest_sessionstart() -> None:
    """Install the tools of the practice fleet, which unit tests use as well, where that is possible."""
    if os.geteuid() == 0:
        require.ensure()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Count a skipped or expectedly failing test as failed: it proves nothing."""
    report = yield
    if report.skipped:
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} did not run: {report.longrepr}"
        report.__dict__.pop("wasxfail", None)
    if report.when == "call" and report.passed:
        passed.update(mark.name for mark in item.iter_markers())
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Count a module that skips itself as failed."""
    report = yield
    if report.skipped:
        report.outcome = "failed"
        report.longrepr = f"{collector.nodeid} did not run: {report.longrepr}"
    return report


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a run that left out what RACKHAND_REQUIRE_LAB asks for."""
    there = {mark.name for item in session.items for mark in item.iter_markers()}
    missing = [kind for kind in PROOFS if kind in there and kind not in passed]
    if missing and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        print(f"\nno test marked {' or '.join(missing)} passed, and RACKHAND_REQUIRE_LAB is set")
