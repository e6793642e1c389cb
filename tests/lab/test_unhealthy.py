"""A deploy to a practice host whose GPUs ail: refused or stopped with the finding, and what served goes on serving."""

from collections.abc import Iterator

import pytest

from rackhand.lab import personality
from rackhand.lab.fleet import Fleet
from rackhand.lab.personality import Ailments
from tests.lab.ailing import recovers, says, turns_into
from tests.lab.deploying import STANDIN
from tests.lab.driver_state import NEW, OLD, loaded, versions
from tests.lab.evidence import only_line
from tests.lab.serving import Rack

pytestmark = pytest.mark.lab

NAME, MACHINE, NEXT = "ailing", "1xL4", "0.33.0"
WELL = personality.load(MACHINE)
FIRST = WELL.gpus[0].address
XID = f"NVRM: Xid (PCI:{FIRST[:-2]}): 62, pid=4711, name=python3, Ch 00000008"
QUICK = {"driver_version": OLD, "serve_shutdown_timeout_s": 1}


@pytest.fixture(scope="module")
def deployed(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rack]:
    rack = Rack.of(fleet, tmp_path_factory.mktemp("ailing"), NAME, MACHINE)
    rack.serves(**QUICK)
    yield rack
    fleet.remove(NAME)


@pytest.fixture
def rack(deployed: Rack) -> Iterator[Rack]:
    """Yield a host that serves, and make its GPU well again."""
    yield deployed
    recovers(deployed.host, WELL)


def served(rack: Rack) -> tuple[int, str]:
    """Return the process of the server, and the version that it answers with."""
    return rack.pid("tiny-0"), rack.does("curl -s 127.0.0.1:8000/version")


def test_a_row_that_waits_for_a_reset_refuses_the_host_while_it_serves(rack: Rack) -> None:
    before = served(rack)
    turns_into(rack.host, WELL.with_gpu(0, ails=Ailments(remap_pending=True)))
    result = rack.deploy(**QUICK, **rack.world.engine(NEXT))
    assert (result.status, result.host(NAME)["status"]) == (1, "refused")
    line = only_line(result, NAME)
    assert f"not fit to serve: GPU {FIRST}: a remapped row waits for a reset" in line
    assert "[gpu-unhealthy] → stop what uses the GPU and reset it (nvidia-smi --gpu-reset), or reboot" in line
    assert result.changed(NAME) == []
    assert served(rack) == before
    finding = result.host(NAME)["findings"][0]
    assert (finding["code"], finding["gpu"], finding["blocks"]) == ("row-remap-pending", FIRST, True)


def test_an_xid_keeps_the_next_release_from_being_switched_to(rack: Rack) -> None:
    before = served(rack)
    says(rack.host, XID)
    result = rack.deploy(**QUICK, **rack.world.engine(NEXT))
    assert result.status == 1, result.printed
    assert "Xid 62 (xid-62) [gpu-unhealthy]" in only_line(result, NAME)
    assert "Switch | drain, stop, start, gate" not in result.changed(NAME)
    assert served(rack) == before
    assert STANDIN in before[1]


def test_a_driver_under_which_gpus_ail_goes_back_with_the_release_that_served(rack: Rack) -> None:
    before = served(rack)
    says(rack.host, XID)
    result = rack.deploy(**{**QUICK, "driver_version": NEW})
    assert result.status == 1, result.printed
    host = result.host(NAME)
    assert (host["status"], result.problem(NAME)["code"]) == ("rolled back", "gpu-unhealthy")
    assert (loaded(rack.host), set(versions(rack.host).values())) == (OLD, {OLD})
    assert served(rack)[1] == before[1]


def test_what_is_ignored_is_told_and_deployed_to(rack: Rack) -> None:
    says(rack.host, XID)
    result = rack.serves(**QUICK, health_ignore=["xid-62"])
    assert [each["code"] for each in result.host(NAME)["findings"]] == ["xid-62"]
    assert (
        f"fatal, ignored: @lab/{NAME} GPU {FIRST}: the card's microcontroller halted: Xid 62 [xid-62]" in result.printed
    )
