"""People and pyinfra reach practice hosts over real SSH."""

import json
import subprocess
import sys
from collections.abc import Callable

import pytest

from rackhand.lab.fleet import Fleet
from rackhand.lab.host import LabHost

pytestmark = pytest.mark.lab

FreshHost = Callable[..., LabHost]


def rackhand(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "rackhand.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def pyinfra(host: LabHost, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pyinfra", "-y", f"@lab/{host.name}", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_a_host_answers_over_ssh_and_is_a_debian_with_systemd(fresh_host: FreshHost) -> None:
    host = fresh_host()
    done = rackhand("lab", "ssh", host.name, "hostname; cat /etc/debian_version; systemctl is-system-running")
    assert done.returncode == 0, done.stderr
    name, version, state = done.stdout.split()
    assert name == host.name
    assert version.startswith("12.")
    assert state == "running"


def test_status_lists_every_host(fresh_host: FreshHost) -> None:
    host = fresh_host("none")
    rows = {row["name"]: row for row in json.loads(rackhand("lab", "status", "--json").stdout)}
    row = rows[host.name]
    assert (row["personality"], row["state"], row["address"]) == ("none", "running", host.address)
    assert row["boot_id"] == host.boot_id
    assert 0 <= row["uptime_s"] < 120
    assert host.name in rackhand("lab", "status").stdout


def test_a_wrong_name_is_answered_with_the_names_there_are(fresh_host: FreshHost) -> None:
    host = fresh_host()
    done = rackhand("lab", "ssh", "nobody")
    assert done.returncode == 1
    assert "lab.unknown" in done.stderr
    assert host.name in done.stderr
    assert "Traceback" not in done.stderr


def test_pyinfra_boots_a_host_by_connecting_to_it(fleet: Fleet) -> None:
    host = fleet.reserve("by-pyinfra")
    assert host.state == "stopped"
    done = pyinfra(host, "exec", "--", "hostname")
    assert done.returncode == 0, done.stderr
    assert "by-pyinfra" in done.stdout + done.stderr
    fleet.remove(host.name)


def test_pyinfra_finds_a_host_without_power_unreachable_and_leaves_it_off(fresh_host: FreshHost) -> None:
    host = fresh_host()
    host.power_cut()
    done = pyinfra(host, "exec", "--", "hostname")
    assert done.returncode != 0
    assert "its power was cut" in done.stdout + done.stderr
    assert host.state == "off"


def test_pyinfra_trusts_no_other_host_at_the_same_address(fresh_host: FreshHost) -> None:
    host = fresh_host()
    made = host.run(
        ["sh", "-c", "rm /etc/ssh/ssh_host_*; ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key"]
    )
    assert made.returncode == 0, made.stderr
    assert host.run(["systemctl", "restart", "ssh"]).returncode == 0
    done = pyinfra(host, "exec", "--", "hostname")
    assert done.returncode != 0
    assert "host key" in (done.stdout + done.stderr).lower()
