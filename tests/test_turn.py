"""A host's turn: it goes over to another release and serves, or serves with what worked before, whatever happens."""

from tests.turn_host import TurnHost, host

__all__ = ["host"]
A, B = ["GPU-a"], ["GPU-b"]


def test_an_upgrade_is_accepted_once_the_controller_confirms(host: TurnHost) -> None:
    host.has("old", A)
    host.serves("old")
    host.has("new", A)
    assert host.begins("new")["back"] == "old"
    assert host.works() is None
    result = host.result()
    assert (result["verdict"], result["release"], result["before"]) == ("accepted", "new", "old")
    assert host.phases() == [
        "armed", "drain", "drained", "stop", "stopped", "freed", "switched", "start", "answering", "gated", "serving",
        "accepted", "confirmed", "closed",
    ]  # fmt: skip
    assert host.in_service() == {"tiny-0"}
    assert host.running() == {"tiny-0": "new-tiny-0"}
    assert (host.link("current"), host.link("previous")) == ("new", "old")
