"""The inventories load as pyinfra loads them, and group_data/all.py says the same as the Settings class."""

import json
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rackhand import settings, settings_reference
from rackhand.settings import DEFAULTS, HINTS, PREFIXES

ROOT = Path(__file__).parent.parent
ALL = ROOT / settings_reference.SOURCE
OF_PYINFRA = {"_timeout", "ssh_paramiko_connect_kwargs", "ssh_connect_retries"}
Host = dict[str, Any]


# In a process of its own: importing pyinfra's command line patches the standard library.
PRINT_INVENTORIES = """
import json, sys
from pyinfra_cli.inventory import make_inventory
from pyinfra.api import State
from pyinfra.context import ctx_state
ctx_state.set(State())
fleets = {path: make_inventory(path, cwd=".") for path in sys.argv[1:]}
hosts = lambda fleet: {host.name: {"groups": host.groups, "data": host.data.dict()} for host in fleet}
print(json.dumps({path: hosts(fleet) for path, fleet in fleets.items()}))
"""


@pytest.fixture(scope="module")
def fleets() -> dict[str, dict[str, Host]]:
    """Load every inventory as pyinfra does: hosts by name, each with its groups and its merged data."""
    paths = [str(path.relative_to(ROOT)) for path in sorted(ROOT.glob("inventory/*.py"))]
    argv = [sys.executable, "-c", PRINT_INVENTORIES, *paths]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    found: dict[str, dict[str, Host]] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def prod(fleets: dict[str, dict[str, Host]]) -> dict[str, Host]:
    return fleets["inventory/prod.py"]


@pytest.fixture(scope="module")
def lab(fleets: dict[str, dict[str, Host]]) -> dict[str, Host]:
    return fleets["inventory/lab.py"]


def test_every_production_host_has_settings_that_are_accepted(prod: dict[str, Host]) -> None:
    for name, host in prod.items():
        assert settings.load(host["data"], name).gpu_count


def test_the_production_example_has_a_group_per_gpu_class_and_no_accidental_one(prod: dict[str, Host]) -> None:
    assert {group for host in prod.values() for group in host["groups"]} == {"prod", "h100", "l4", "canary"}
    for host in prod.values():
        assert len({"h100", "l4"} & set(host["groups"])) == 1


def test_the_canary_covers_every_gpu_class_and_is_not_the_whole_fleet(prod: dict[str, Host]) -> None:
    canary = [host for host in prod.values() if "canary" in host["groups"]]
    assert {group for host in canary for group in host["groups"]} >= {"h100", "l4"}
    assert len(canary) < len(prod)


def test_the_data_of_a_narrow_group_beats_that_of_a_broad_one(prod: dict[str, Host]) -> None:
    for host in prod.values():
        assert host["groups"][0] == "prod"
        assert host["groups"][1] in ("h100", "l4")


def test_production_hosts_are_believed_only_with_a_known_key(prod: dict[str, Host]) -> None:
    for host in prod.values():
        assert host["data"]["ssh_strict_host_key_checking"] == "yes"
        assert (ROOT / host["data"]["ssh_known_hosts_file"]).is_file()
        assert (ROOT / host["data"]["ssh_config_file"]).is_file()


def test_the_jump_host_is_believed_only_with_a_known_key(prod: dict[str, Host]) -> None:
    from pyinfra.connectors.sshuserclient.client import SSHClient, StrictPolicy, get_ssh_config

    data = prod["gpu-b1"]["data"]
    config = get_ssh_config(str(ROOT / data["ssh_config_file"]))
    assert config.lookup(data["ssh_hostname"])["proxyjump"] == "bastion"
    read: Any = SSHClient().parse_config
    parsed = read("bastion", {}, ssh_config_file=str(ROOT / data["ssh_config_file"]))
    assert parsed[0] == "bastion.example.net"
    assert isinstance(parsed[3], StrictPolicy)
    assert parsed[4] == (data["ssh_known_hosts_file"],)


def test_one_host_of_the_example_differs_by_its_own_data(prod: dict[str, Host]) -> None:
    assert {host["data"]["serve_port"] for host in prod.values()} == {8000, 9000}


def test_no_inventory_holds_a_password(fleets: dict[str, dict[str, Host]]) -> None:
    for fleet in fleets.values():
        for host in fleet.values():
            assert not [key for key in host["data"] if "password" in key]


def test_the_local_inventory_is_this_machine(fleets: dict[str, dict[str, Host]]) -> None:
    assert list(fleets["inventory/local.py"]) == ["@local"]


def test_every_practice_host_has_settings_that_are_accepted(lab: dict[str, Host]) -> None:
    for name, host in lab.items():
        assert settings.load(host["data"], name).gpu_count


def test_the_practice_fleet_has_two_hosts_with_known_personalities(lab: dict[str, Host]) -> None:
    assert list(lab) == ["@lab/rack1", "@lab/rack2"]
    for host in lab.values():
        assert (ROOT / f"rackhand/lab/personalities/{host['data']['lab_personality']}.yaml").is_file()


def test_the_keys_of_the_practice_fleet_are_no_settings() -> None:
    assert not [key for key in HINTS if key.startswith("lab_")]


def test_no_second_group_data_overrides_the_first() -> None:
    assert not (ROOT / "inventory/group_data").exists()


def values() -> dict[str, Any]:
    found = runpy.run_path(str(ALL))
    return {key: value for key, value in found.items() if not key.startswith("__")}


def test_group_data_holds_every_setting_with_its_default_and_nothing_else() -> None:
    found = values()
    assert found.keys() - OF_PYINFRA == DEFAULTS.keys()
    for name, default in DEFAULTS.items():
        assert found[name] == (list(default) if isinstance(default, tuple) else default), name
        assert type(found[name]) in (type(default), list)


def test_group_data_keeps_a_dead_host_from_holding_a_run() -> None:
    found = values()
    assert found["_timeout"] == 900
    assert found["ssh_paramiko_connect_kwargs"] == {"channel_timeout": 60, "banner_timeout": 30, "auth_timeout": 30}
    assert found["ssh_connect_retries"] == 2


def test_required_settings_stand_in_group_data_as_a_comment() -> None:
    for name in HINTS.keys() - DEFAULTS.keys():
        assert re.search(rf"^# {name} = ", ALL.read_text(), re.MULTILINE)


def test_every_setting_has_one_comment_that_names_its_unit() -> None:
    comments = settings_reference.comments(ALL.read_text())
    assert comments.keys() == HINTS.keys() | {"ssh_paramiko_connect_kwargs", "ssh_connect_retries", "_timeout"}
    for name, comment in comments.items():
        assert comment.endswith((".", ").")), name
        assert not name.endswith("_s") or "in seconds" in comment, name
        assert not name.endswith("_mib") or "in MiB" in comment, name


def test_settings_stand_in_the_order_of_the_class_grouped_by_prefix() -> None:
    names = [name for name in settings_reference.comments(ALL.read_text()) if name in HINTS]
    assert names == list(HINTS)
    prefixes = [next(prefix for prefix in PREFIXES if name.startswith(prefix)) for name in names]
    assert prefixes == sorted(prefixes, key=PREFIXES.index)


def test_the_settings_reference_is_current() -> None:
    page = ROOT / settings_reference.PAGE
    assert page.read_text() == settings_reference.render(ALL.read_text()), "run: python -m rackhand.settings_reference"
