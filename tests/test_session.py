"""One call is one SSH command that shows nothing of its arguments; every way to fail has its own name."""

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
from paramiko import SSHException
from pyinfra.api import QuoteString, StringCommand
from pyinfra.api.exceptions import ConnectError
from pyinfra.connectors.util import CommandOutput, OutputLine

from rackhand import payload
from rackhand.errors import RackhandError
from rackhand.session import Session

Answer = tuple[bool, CommandOutput]


def output(stdout: str = "", stderr: str = "") -> CommandOutput:
    lines = [OutputLine("stdout", line) for line in stdout.splitlines()]
    return CommandOutput(lines + [OutputLine("stderr", line) for line in stderr.splitlines()])


class Wire:
    """A pyinfra host that answers every command with the same function and remembers what it was asked."""

    name = "gpu-1"
    connected = True
    connector = None
    data: ClassVar[dict[str, str]] = {"ssh_user": "ops"}

    def __init__(self, answer: Callable[[str, dict[str, Any]], Answer]) -> None:
        self.answer = answer
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def run_shell_command(self, command: StringCommand, **arguments: Any) -> Answer:
        text = command.get_raw_value()
        self.asked.append((text, arguments))
        return self.answer(text, arguments)

    def put_file(self, source: str, destination: str) -> bool:
        return bool(self.answer("put", {})[0])


def session(answer: Callable[[str, dict[str, Any]], Answer]) -> tuple[Session, Wire]:
    wire: Any = Wire(answer)
    return Session(wire), wire


def failing(session: Session) -> RackhandError:
    with pytest.raises(RackhandError) as caught:
        session.call("state.instances")
    assert caught.value.where == "gpu-1"
    return caught.value


def test_a_call_is_one_command_and_its_result_comes_back() -> None:
    line, wire = session(lambda *_: (True, output("a banner\n" + json.dumps({"result": [1, 2]}))))
    assert line.call("state.instances") == [1, 2]
    assert (line.commands, len(wire.asked)) == (1, 1)


def test_no_argument_is_visible_in_the_command() -> None:
    line, wire = session(lambda *_: (True, output('{"result": null}')))
    line.call("gate.check", instances=[{"key": "canary-secret"}], timeout_s=4711)
    command, arguments = wire.asked[0]
    assert "canary" not in command
    assert "4711" not in command
    assert "gate" not in command
    sent = {"instances": [{"key": "canary-secret"}], "timeout_s": 4711}
    assert arguments["_stdin"] == payload.pack("gate.check", sent)


def test_the_command_of_every_call_is_the_same_and_quoted_for_a_shell() -> None:
    line, wire = session(lambda *_: (True, output('{"result": null}')))
    line.call("state.instances")
    line.call("files.record", root="/it's", entry={})
    first, second = (text for text, _ in wire.asked)
    assert first == second
    assert payload.LOADER in shlex.split(first)


def test_the_deadline_of_a_call_is_the_connectors() -> None:
    line, wire = session(lambda *_: (True, output('{"result": null}')))
    line.call("state.instances", 77)
    assert wire.asked[0][1]["_timeout"] == 77


def test_a_problem_of_the_host_keeps_its_words_and_gets_its_place() -> None:
    problem = {"code": "disk-full", "what": "full", "next_step": "free space", "evidence": ["E: full"]}
    error = failing(session(lambda *_: (True, output(json.dumps({"problem": problem}))))[0])
    assert (error.code, error.what, error.next_step, error.evidence) == (
        "disk-full",
        "full",
        "free space",
        ("E: full",),
    )


def test_a_full_disk_is_named_and_not_a_fault_of_ours() -> None:
    crash = ["Traceback (most recent call last):", "OSError: [Errno 28] No space left on device: '/opt/rackhand/x'"]
    error = failing(session(lambda *_: (False, output(stderr="\n".join(crash))))[0])
    assert (error.code, error.evidence) == ("disk-full", (crash[-1],))
    assert "free space" in error.next_step


@pytest.mark.parametrize("gone", [OSError("Socket is closed"), EOFError(), SSHException("Channel closed.")])
def test_a_connection_that_breaks_is_lost_and_not_a_traceback(gone: Exception) -> None:
    def answer(*_: object) -> Answer:
        raise gone

    error = failing(session(answer)[0])
    assert error.code == "connection-lost"
    assert str(gone) in error.what
    assert "run again" in error.next_step


def test_silence_is_told_from_a_lost_connection_by_asking_again() -> None:
    error = failing(session(lambda *_: (False, output()))[0])
    assert error.code == "connection-lost"


def test_a_call_that_takes_too_long_is_named_with_its_limit() -> None:
    def answer(*_: object) -> Answer:
        raise TimeoutError

    error = failing(session(answer)[0])
    assert error.code == "timeout"
    assert "120 s" in error.what


@pytest.mark.parametrize(("status", "code"), [(127, "no-python"), (126, "sudo-password")])
def test_a_missing_precondition_is_found_out_after_the_failure(status: int, code: str) -> None:
    def answer(text: str, arguments: dict[str, Any]) -> Answer:
        if "_stdin" in arguments:
            return False, output()
        return text == "true" or arguments["_success_exit_codes"] == [status], output()

    assert failing(session(answer)[0]).code == code


def test_anything_else_is_a_crash_of_ours_with_the_end_of_the_traceback() -> None:
    def answer(_: str, arguments: dict[str, Any]) -> Answer:
        return "_success_exit_codes" not in arguments, output(
            "no json", "Traceback\n  one\n  two\n  three\nKeyError: 'x'"
        )

    error = failing(session(answer)[0])
    assert error.code == "remote-crash"
    assert error.evidence[-1] == "KeyError: 'x'"
    assert len(error.evidence) == 4


@pytest.mark.parametrize("stored", [True, False])
def test_a_file_that_was_not_stored_is_an_error(stored: bool) -> None:
    line, _ = session(lambda *_: (stored, output()))
    if stored:
        line.put(Path("model"), "/incoming/model")
        return
    with pytest.raises(RackhandError) as caught:
        line.put(Path("model"), "/incoming/model")
    assert caught.value.code == "upload"
    assert "/incoming/model" in caught.value.what


def boots(*ids: str | None) -> tuple[Session, Wire]:
    """Answer questions for the boot id one after the other; None is a host that is away."""
    left = list(ids)

    def answer(text: str, _: dict[str, Any]) -> Answer:
        if "boot_id" not in text:
            return True, output()
        found = left.pop(0) if len(left) > 1 else left[0]
        return found is not None, output(found or "")

    line, wire = session(answer)
    untyped: Any = wire
    untyped.connector = type("Connector", (), {"disconnect": lambda self: None})()
    untyped.connect = lambda **_: setattr(wire, "connected", True)
    return line, wire


def test_a_reboot_is_over_when_the_host_has_another_boot_id() -> None:
    line, wire = boots("one", "one", None, None, "two")
    line.reboot(30, poll_s=0)
    assert sum("systemctl reboot" in text for text, _ in wire.asked) == 1


def test_a_host_that_does_not_say_which_boot_this_is_is_not_rebooted() -> None:
    line, wire = boots(None, None, "one")
    with pytest.raises(RackhandError) as caught:
        line.reboot(30, poll_s=0)
    assert (caught.value.code, caught.value.where) == ("connection-lost", line.name)
    assert not any("systemctl reboot" in text for text, _ in wire.asked)


def test_one_answer_that_is_lost_before_a_reboot_makes_no_boot_of_the_next() -> None:
    line, _ = boots(None, "one", "one", None, "two")
    line.reboot(30, poll_s=0)
    assert line.commands == 6


def test_a_host_that_does_not_come_back_is_given_up_in_time() -> None:
    with pytest.raises(RackhandError) as caught:
        boots("one", None)[0].reboot(0, poll_s=0)
    assert caught.value.code == "reboot"


def test_the_loader_survives_pyinfras_own_quoting() -> None:
    quoted = StringCommand(QuoteString(payload.LOADER)).get_raw_value()
    assert shlex.split(quoted) == [payload.LOADER]


@pytest.mark.parametrize(("alive", "code"), [(True, "upload"), (False, "connection-lost")])
def test_an_upload_that_finds_no_file_transfer_says_whether_the_host_is_gone(alive: bool, code: str) -> None:
    def answer(text: str, _: dict[str, Any]) -> Answer:
        if text == "put":
            raise ConnectError("Unable to establish SFTP connection.")
        return alive, output()

    with pytest.raises(RackhandError) as caught:
        session(answer)[0].put(Path("model"), "/incoming/model")
    assert caught.value.code == code
