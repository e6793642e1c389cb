"""A lease lives as long as its run works, and a run whose lease is taken changes nothing more."""

import time
from typing import Any

import gevent  # type: ignore[import-untyped]
import pytest
from typing_extensions import override

from rackhand.errors import RackhandError
from rackhand.operations import current_run
from rackhand.outcome import HostStatus
from rackhand.progress import Progress
from rackhand.renewal import Renewal
from rackhand.run import HostRun
from tests.paper import Deploy, PaperHost
from tests.test_operations import deploy

__all__ = ["deploy"]
TAKEN = RackhandError("lease-lost", "bob took it over", "a", "look who works on it")
GONE = RackhandError("connection-lost", "the SSH connection is gone", "a", "check the host")


@pytest.fixture
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a life of 30 s pass in 30 ms."""
    real = gevent.sleep
    monkeypatch.setattr("rackhand.renewal.gevent.sleep", lambda seconds: real(seconds / 1000))


def renewed(host: PaperHost, times: int) -> bool:
    """Wait until a lease was renewed so often, for a second at most."""
    deadline = time.monotonic() + 1
    while host.calls.count("lease.renew") < times and time.monotonic() < deadline:
        gevent.sleep(0.005)
    return host.calls.count("lease.renew") >= times


def working(session: PaperHost) -> HostRun:
    host = HostRun(name="a", run="r1", session=session, progress=Progress(print))
    Renewal("r1").add(host, 30)
    return host


@pytest.mark.usefixtures("brisk")
def test_a_lease_is_renewed_again_and_again_until_it_is_given_back() -> None:
    session = PaperHost()
    host = working(session)
    assert renewed(session, 3)
    host.leased = False
    gevent.sleep(0.05)
    count = session.calls.count("lease.renew")
    gevent.sleep(0.05)
    assert session.calls.count("lease.renew") == count


@pytest.mark.usefixtures("brisk")
def test_a_host_that_does_not_answer_is_asked_again_and_one_that_somebody_took_is_not() -> None:
    session = PaperHost(fails={"lease.renew": GONE})
    host = working(session)
    assert renewed(session, 2)
    assert (host.leased, host.lost) == (True, None)
    session.fails = {"lease.renew": TAKEN}
    deadline = time.monotonic() + 1
    while host.lost is None and time.monotonic() < deadline:
        gevent.sleep(0.005)
    assert (host.leased, host.lost) == (False, TAKEN)


@pytest.mark.usefixtures("brisk")
def test_a_run_whose_lease_somebody_took_changes_nothing_more(deploy: Deploy) -> None:
    class Taken(PaperHost):
        """Its lease is taken while the environment is built."""

        @override
        def venv_build(self, digest: str, **more: Any) -> dict[str, Any]:
            self.fails["lease.renew"] = TAKEN
            while current_run().hosts[self.name].lost is None:
                gevent.sleep(0.005)
            return super().venv_build(digest, **more)

    host = Taken.bare()
    found = deploy({"a": host}, "-y")
    assert found.status == 1
    assert found.host("a").status is HostStatus.FAILED
    assert [problem.code for problem in found.host("a").problems] == ["lease-lost"]
    assert host.changing[-1] == "venv.build"
