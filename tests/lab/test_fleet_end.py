"""What a practice fleet made goes away, after crashes too, and two fleets do not meet."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from rackhand.lab import network, processes, server, supervisor
from rackhand.lab.fleet import Fleet
from rackhand.lab.host import LabHost

pytestmark = pytest.mark.lab

FreshHost = Callable[..., LabHost]
Elsewhere = Callable[[str], Fleet]


def traces(fleet: Fleet) -> list[str]:
    """Return whatever is left of a fleet on this machine."""
    root = str(fleet.places.root)
    links = {path.name for path in Path("/sys/class/net").iterdir()}
    tables = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True).stdout
    lines = Path("/proc/mounts").read_text().splitlines()
    found = [f"mount {line}" for line in lines if root in line]
    found += [f"process {pid}" for pid in processes.with_argument(f"--directory={root}/")]
    found += [f"server {pid}" for pid in processes.with_argument(f"--root={root}/")]
    found += [f"link {name}" for name in links if name == fleet.places.bridge or name[3:9] == fleet.places.digest[:6]]
    found += [f"table {fleet.places.table}"] if fleet.places.table in tables else []
    found += [f"group {path}" for path in Path("/sys/fs/cgroup").glob(f"**/{fleet.places.digest[:6]}-*")]
    found += [str(path) for path in fleet.places.root.glob("*")]
    found += [str(path) for path in Path("/run/systemd/nspawn").glob(f"*/{fleet.places.digest[:6]}-*")]
    return found


def test_two_fleets_side_by_side_do_not_collide(elsewhere: Elsewhere) -> None:
    one, two = elsewhere("one"), elsewhere("two")
    hosts = [fleet.up("same") for fleet in (one, two)]
    for host in hosts:
        host.wait_ssh()
    assert hosts[0].address != hosts[1].address
    one.down()
    assert traces(one) == []
    assert hosts[1].run(["hostname"]).stdout == "same\n"
    hosts[1].wait_ssh(1)


def test_down_leaves_nothing_and_may_be_said_twice(elsewhere: Elsewhere) -> None:
    fleet = elsewhere("gone")
    hosts = [fleet.up(name, "none") for name in ("one", "two")]
    hosts[1].power_cut()
    assert traces(fleet) != []
    fleet.down()
    assert traces(fleet) == []
    fleet.down()


@pytest.mark.parametrize("victim", ["supervisor", "nspawn", "init"])
def test_down_leaves_nothing_after_a_process_was_killed(elsewhere: Elsewhere, victim: str) -> None:
    fleet = elsewhere("crashed")
    host = fleet.up("one")
    host.wait_ssh()
    shell, nspawn = supervisor.find(host.machine)
    inner = host.pid
    assert inner is not None
    os.kill({"supervisor": shell, "nspawn": nspawn, "init": inner}[victim], signal.SIGKILL)
    fleet.down()
    assert traces(fleet) == []
    assert processes.arguments(inner) == []


def test_a_host_whose_nspawn_was_killed_is_booted_anew_and_not_twice(fleet: Fleet, fresh_host: FreshHost) -> None:
    host = fresh_host()
    before, orphan = host.boot_id, host.pid
    assert orphan is not None
    os.kill(supervisor.find(host.machine)[1], signal.SIGKILL)
    while host.running:
        time.sleep(0.05)
    fleet.up(host.name).wait_ssh()
    assert host.boot_id not in (before, None)
    assert processes.arguments(orphan) == []


def test_down_leaves_nothing_of_a_host_that_was_half_made(elsewhere: Elsewhere) -> None:
    fleet = elsewhere("half")
    host = fleet.up("one")
    (host.machine.folder / "host.json").unlink()
    (fleet.places.root / "reservations.json").write_text("{")
    fleet.down()
    assert traces(fleet) == []


def test_down_leaves_nothing_of_a_network_without_hosts(elsewhere: Elsewhere) -> None:
    fleet = elsewhere("empty")
    fleet.places.root.mkdir()
    network.claim(fleet.places)
    assert traces(fleet) != []
    fleet.down()
    assert traces(fleet) == []


def test_a_host_half_made_by_a_crash_is_made_anew(elsewhere: Elsewhere) -> None:
    fleet = elsewhere("again")
    host = fleet.up("one")
    host.wait_ssh()
    (host.machine.folder / "host.json").unlink()
    fleet.up("one").wait_ssh()
    assert fleet.host("one").state == "running"
    assert len(supervisor.find(host.machine)) == 2


def test_hosts_come_back_with_their_disks_after_the_outer_machine_was_rebooted(elsewhere: Elsewhere) -> None:
    fleet = elsewhere("rebooted")
    host = fleet.up("one")
    host.wait_ssh()
    host.write("/var/lib/kept", "kept\n")
    supervisor.end(host.machine)
    processes.end(lambda: server.find(fleet.places))
    subprocess.run(["umount", host.machine.folder / "root"], check=True)
    network.remove(fleet.places)
    again = fleet.up("one")
    again.wait_ssh()
    assert again.address == host.address
    assert again.run(["cat", "/var/lib/kept"]).stdout == "kept\n"
    assert again.run(["curl", "-fsS", "-o", "/dev/null", f"{host.repository_url}/"]).returncode == 0


def test_forwarding_is_put_back_with_the_last_fleet_only(fleet: Fleet, elsewhere: Elsewhere) -> None:
    fleet.reserve("keeps-the-bridge")
    other = elsewhere("other")
    other.reserve("one")
    other.down()
    assert network.FORWARDING.read_text() == "1\n"
