"""`pyinfra INVENTORY verify.py`: asked host by host, told once for all, an end with an error where something blocks."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pyinfra.api.state import StateStage
from pyinfra.context import ctx_host, ctx_state

from rackhand import verifying
from rackhand.errors import RackhandError
from rackhand.verifying import UnhealthyError
from tests.error_codes import ROOT
from tests.paper import paper_state
from tests.test_verify_command import Host, sick

Run = Callable[..., str]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Run verify.py as pyinfra does, over hosts on paper, and return what it said; `silent` ones are not connected."""

    def go(*hosts: Host, silent: tuple[str, ...] = ()) -> str:
        said: list[str] = []
        known = {f"@fake/{each.name}": each for each in hosts}
        monkeypatch.setattr(verifying, "Session", lambda host: _named(known[host.name], host))
        monkeypatch.setattr("rackhand.verifying.click.echo", said.append)
        verifying._answers.cache_clear()
        state = paper_state([*known, *(f"@fake/{name}" for name in silent)])
        for name in silent:
            state.active_hosts.remove(state.inventory.get_host(f"@fake/{name}"))
        state.set_stage(StateStage.Prepare)
        code = compile((ROOT / "verify.py").read_text(), "verify.py", "exec")
        with ctx_state.use(state):
            for host in list(state.active_hosts):
                with ctx_host.use(host):
                    exec(code, {"__file__": "verify.py"})
        assert len(said) == 1, "one table for all"
        return said[0]

    yield go
    verifying._answers.cache_clear()


def _named(paper: Host, host: Any) -> Host:
    paper.name = host.name
    return paper


def test_a_fleet_that_is_well_is_told_once_and_is_no_error(run: Run) -> None:
    assert "2 hosts: 2 healthy." in run(Host("rack1"), Host("rack2"))


def test_what_blocks_ends_the_run_with_an_error_that_names_the_host(run: Run) -> None:
    with pytest.raises(UnhealthyError, match="not fit to serve, or not to be asked: @fake/rack2"):
        run(Host("rack1"), Host("rack2", sick()))


def test_a_host_that_is_not_connected_is_told_with_the_others(run: Run) -> None:
    with pytest.raises(UnhealthyError, match="@fake/rack9"):
        run(Host("rack1"), silent=("rack9",))


def test_a_host_that_gives_no_answer_does_not_keep_the_others_from_theirs(run: Run) -> None:
    class Broken(Host):
        def call(self, function: str, within_s: int = 0, **words: Any) -> Any:
            raise RackhandError("sudo-password", "sudo asks for a password", self.name, "allow it without one")

    with pytest.raises(UnhealthyError, match=r"not to be asked: @fake/rack2$"):
        run(Host("rack1"), Broken("rack2"))
