"""A command line on which pyinfra would do nothing and exit 0 is refused in one line."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from rackhand import arguments
from rackhand.arguments import Fleet
from rackhand.errors import RackhandError

ROOT = Path(__file__).parent.parent
INVENTORIES = ("inventory/lab.py", "inventory/local.py", "inventory/prod.py")
FILES = frozenset({"group_data/all.py", "deploy.py", *INVENTORIES})
FLEET = Fleet(
    hosts=frozenset({"gpu-a1", "gpu-a2", "gpu-b1", "@lab/rack1"}),
    groups={"h100": frozenset({"gpu-a1", "gpu-a2"}), "l4": frozenset({"gpu-b1"})},
)


def check(*argv: str, files: frozenset[str] = FILES, fleet: Fleet = FLEET) -> None:
    arguments.check(argv, files.__contains__, lambda _: fleet, INVENTORIES)


def refusal(*argv: str, files: frozenset[str] = FILES, fleet: Fleet = FLEET) -> RackhandError:
    with pytest.raises(RackhandError) as caught:
        check(*argv, files=files, fleet=fleet)
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize(
    "argv",
    [
        ("inventory/prod.py", "deploy.py"),
        ("-y", "inventory/prod.py", "deploy.py", "--limit", "gpu-a1"),
        ("--limit=gpu-*", "inventory/prod.py", "deploy.py"),
        ("--limit", "h100", "--exclude", "gpu-a1", "inventory/prod.py", "deploy.py"),
        ("inventory/prod.py", "exec", "--", "grep", "--limit", "nothing"),
        ("@local", "deploy.py"),
        ("@docker/ubuntu:24.04", "deploy.py"),
        ("gpu-a1,gpu-b1", "deploy.py"),
        ("gpu-a1.example.net", "deploy.py"),
        ("module.fleet", "deploy.py"),
        ("--version",),
        (),
    ],
)
def test_a_command_line_that_reaches_a_host_passes(argv: Sequence[str]) -> None:
    check(*argv)


@pytest.mark.parametrize(
    ("inventory", "near"),
    [
        ("inventory/prd.py", "inventory/prod.py"),
        ("inventory/prod", "inventory/prod.py"),
        ("prod.py", "inventory/prod.py"),
        ("prod", "inventory/prod.py"),
        ("invntory/lab.py", "inventory/lab.py"),
    ],
)
def test_a_mistyped_inventory_is_refused_with_the_file_it_resembles(inventory: str, near: str) -> None:
    error = refusal("-y", inventory, "deploy.py")
    assert error.code == "inventory"
    assert f"there is no file {inventory}" in str(error)
    assert error.next_step == f"did you mean {near}?"


def test_an_inventory_that_resembles_none_is_refused_with_the_choice() -> None:
    assert "choose one of inventory/lab.py" in refusal("/srv/zzzzzzzzz", "deploy.py").next_step


def test_an_inventory_without_hosts_is_refused() -> None:
    error = refusal("inventory/prod.py", "deploy.py", fleet=Fleet(hosts=frozenset()))
    assert "inventory/prod.py names no host" in str(error)


def test_the_values_of_options_are_not_taken_for_the_inventory() -> None:
    refusal("--data", "a=b", "--ssh-user", "root", "inventory/none.py", "deploy.py")
    check("--data", "x/y=1", "--ssh-key", "/none", "inventory/prod.py", "deploy.py")


@pytest.mark.parametrize("option", ["--limit", "--exclude"])
@pytest.mark.parametrize(("pattern", "near"), [("h10", "h100"), ("gpu-a", "gpu-a"), ("rack1", "@lab/rack1")])
def test_a_pattern_without_a_match_is_refused_with_the_name_it_resembles(option: str, pattern: str, near: str) -> None:
    for words in ((option, pattern), (f"{option}={pattern}",)):
        error = refusal("inventory/prod.py", "deploy.py", *words)
        assert error.code == "limit"
        assert f"'{pattern}' matches no host and no group" in str(error)
        assert near in error.next_step


def test_each_of_several_limits_must_match() -> None:
    assert "'typo'" in str(refusal("inventory/prod.py", "deploy.py", "--limit", "h100", "--limit", "typo"))


def test_a_glob_matches_hosts_and_not_groups_as_in_pyinfra() -> None:
    check("inventory/prod.py", "deploy.py", "--limit", "gpu-?1")
    refusal("inventory/prod.py", "deploy.py", "--limit", "h1*")


def test_excluding_every_host_is_refused() -> None:
    assert "no host is left" in str(refusal("inventory/prod.py", "deploy.py", "--limit", "l4", "--exclude", "gpu-b1"))
    check("inventory/prod.py", "deploy.py", "--limit", "l4", "--limit", "h100", "--exclude", "gpu-b1")


def test_a_directory_without_group_data_is_refused() -> None:
    assert refusal("inventory/prod.py", "deploy.py", files=FILES - {"group_data/all.py"}).code == "directory"


def test_a_reported_command_line_holds_no_password() -> None:
    argv = ["prod.py", "--ssh-password", "hunter2", "--key-password=hunter2", "--data", "a=b c"]
    line = arguments.command_line(argv)
    assert line == "prod.py --ssh-password *** --key-password=*** --data 'a=b c'"


# In one process for all: importing pyinfra's command line takes a second and patches the standard library.
ASK_CONFIG = """
import json, sys
from pyinfra.api import Config, State
from pyinfra.context import ctx_config, ctx_state
from pyinfra_cli.cli import cli
ctx_state.set(State())
ctx_config.set(Config())
answers = []
code = compile(open("config.py").read(), "config.py", "exec")
for argv in json.loads(sys.argv[1]):
    sys.argv = ["pyinfra", *argv]
    try:
        exec(code, {})
        answers.append("")
    except SystemExit as end:
        answers.append(str(end.code))
options = [o for o in cli.params if o.param_type_name == "option" and not o.is_flag and not o.count]
print(json.dumps({"answers": answers, "options": [name for option in options for name in option.opts]}))
"""
REFUSED = {
    ("inventory/prd.py", "debug-inventory"): "did you mean inventory/prod.py?",
    ("inventory/prod.py", "debug-inventory", "--limit", "h10"): "'h10' matches no host and no group",
}
ACCEPTED = (
    ("inventory/prod.py", "debug-inventory", "--limit", "h100", "--exclude", "canary"),
    ("inventory/local.py", "exec", "--limit", "local", "--", "true"),
    ("anything", "--data", "ssh_hostname=127.0.0.1", "debug-inventory"),
)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """Return what config.py says to each command line, and the options of pyinfra that take a value."""
    broken = tmp_path_factory.mktemp("inventory") / "broken.py"
    broken.write_text("hosts = [undefined_name]\n")
    left_to_pyinfra = (str(broken), "debug-inventory")
    argv = [sys.executable, "-c", ASK_CONFIG, json.dumps([*REFUSED, *ACCEPTED, left_to_pyinfra])]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    found: dict[str, list[str]] = json.loads(done.stdout)
    return found


def test_the_options_with_values_are_those_of_pyinfra(config: dict[str, list[str]]) -> None:
    assert set(config["options"]) == arguments.VALUE_OPTIONS


def test_config_refuses_what_the_check_refuses_and_leaves_the_rest_to_pyinfra(
    config: dict[str, list[str]],
) -> None:
    answers = config["answers"]
    for answer, words in zip(answers, REFUSED.values(), strict=False):
        assert answer.startswith("rackhand: ")
        assert words in answer
        assert "\n" not in answer
    assert answers[len(REFUSED) :] == [""] * (len(ACCEPTED) + 1)


def pyinfra(*argv: str) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).parent / "pyinfra"
    environment = os.environ | {"PYINFRA_PROGRESS": "off"}
    return subprocess.run([program, *argv], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)


def test_pyinfra_itself_ends_with_one_line_and_status_1() -> None:
    done = pyinfra("--config", str(ROOT / "config.py"), "--chdir", "tests", "@local", "exec", "--", "true")
    said = [line for line in done.stderr.splitlines() if not line.startswith("--> Loading config")]
    assert (done.returncode, done.stdout, len(said)) == (1, "", 1)
    assert said[0].startswith("rackhand: ")
    assert "[directory]" in said[0]
