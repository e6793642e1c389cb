"""`rackhand lab` speaks to people."""

import json
from pathlib import Path

import pytest

from rackhand import cli


@pytest.fixture(autouse=True)
def _empty_lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RACKHAND_LAB_DIR", str(tmp_path / "lab"))


def test_status_without_hosts_says_how_to_boot_some(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["lab", "status"]) == 0
    assert capsys.readouterr().out == "no practice hosts; boot some: rackhand lab up\n"


def test_status_without_hosts_is_an_empty_list_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["lab", "status", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_an_unknown_host_is_one_line_and_exit_status_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["lab", "ssh", "nobody", "true"]) == 1
    assert capsys.readouterr().err == (
        "rackhand: lab: there is no practice host 'nobody' [lab.unknown] → choose of: none\n"
    )


@pytest.mark.parametrize("argv", [[], ["lab"], ["lab", "explode"], ["explode"]])
def test_a_command_that_is_none_is_an_error_and_no_refusal(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(argv)
    assert ended.value.code == 1
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith("rackhand")
    assert "[arguments] → see rackhand" in said


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (
            ["verify", "fleet.py", "--limt", "x"],
            "rackhand verify: unrecognized arguments: --limt x [arguments] → did you mean --limit? See "
            "rackhand verify --help",
        ),
        (
            ["lab", "down", "--all"],
            "rackhand lab down: unrecognized arguments: --all [arguments] → see rackhand lab down --help",
        ),
        (
            ["status"],
            "rackhand status: the following arguments are required: INVENTORY [arguments] → see rackhand status --help",
        ),
    ],
)
def test_a_wrong_word_is_one_line_of_the_command_that_it_was_said_to(
    argv: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(argv)
    assert ended.value.code == 1
    assert capsys.readouterr().err == f"{said}\n"
