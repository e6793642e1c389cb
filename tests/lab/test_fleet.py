"""Practice hosts boot, reboot, break and disappear like real ones."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from rackhand.errors import RackhandError
from rackhand.lab import network, processes, supervisor
from rackhand.lab.fleet import Fleet
from rackhand.lab.host import LabHost

pytestmark = pytest.mark.lab

FreshHost = Callable[..., LabHost]
Elsewhere = Callable[[str], Fleet]
HARDENED = """\
[Service]
User=nobody
ExecStart=/bin/sleep infinity
ProtectSystem=strict
ReadWritePaths=/var/tmp
PrivateTmp=yes
PrivateIPC=yes
DevicePolicy=closed
DeviceAllow=char-nvidia rw
ProtectHome=yes
ProtectProc=invisible
ProtectKernelTunables=yes
ProtectControlGroups=yes
RestrictNamespaces=yes
CapabilityBoundingSet=
NoNewPrivileges=yes
SystemCallFilter=@system-service
"""


def rackhand(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "rackhand.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def pyinfra(host: LabHost, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pyinfra", "-y", f"@lab/{host.name}", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


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


def test_a_host_answers_over_ssh_and_is_a_debian_with_systemd(fresh_host: FreshHost) -> None:
    host = fresh_host()
    done = rackhand("lab", "ssh", host.name, "hostname; cat /etc/debian_version; systemctl is-system-running")
    assert done.returncode == 0, done.stderr
    name, version, state = done.stdout.split()
    assert name == host.name
    assert version.startswith("12.")
    assert state == "running"


def test_two_hosts_see_each_other(fresh_host: FreshHost) -> None:
    one, two = fresh_host(), fresh_host()
    reached = one.run(["bash", "-c", f"read -t 5 line </dev/tcp/{two.address}/22; echo $line"])
    assert reached.stdout.startswith("SSH-2.0-")


def test_apt_get_update_works_inside(fresh_host: FreshHost) -> None:
    done = fresh_host().run(["apt-get", "update", "--error-on=any"])
    assert done.returncode == 0, done.stderr
    assert "InRelease" in done.stdout


def test_no_timer_of_apt_is_waiting_to_take_the_lock(fresh_host: FreshHost) -> None:
    timers = fresh_host().run(["systemctl", "list-timers", "--no-legend"])
    assert timers.returncode == 0
    assert "apt" not in timers.stdout


def test_the_real_lspci_sees_the_emulated_gpu(fresh_host: FreshHost) -> None:
    host = fresh_host("1xH100")
    done = host.run(["lspci", "-nn", "-d", "10de:"])
    assert done.returncode == 0, done.stderr
    assert "H100" in done.stdout
    assert "[10de:2330]" in done.stdout


def test_the_bridge_serves_the_driver_repository(fresh_host: FreshHost) -> None:
    host = fresh_host("1xH100")
    done = host.run(["curl", "-fsS", f"{host.repository_url}/driver/debian12/x86_64/Packages"])
    assert done.returncode == 0, done.stderr
    assert "Package: nvidia-" in done.stdout


def test_a_reboot_gives_a_new_boot_id_and_keeps_the_files(fresh_host: FreshHost) -> None:
    host = fresh_host()
    host.write("/var/lib/kept", "kept\n")
    before = host.boot_id
    host.reboot()
    assert host.boot_id not in (before, None)
    assert host.run(["cat", "/var/lib/kept"]).stdout == "kept\n"
    assert rackhand("lab", "ssh", host.name, "true").returncode == 0


def test_a_host_that_powers_itself_off_stays_off_until_it_is_brought_up(fleet: Fleet, fresh_host: FreshHost) -> None:
    host = fresh_host()
    host.run(["systemctl", "poweroff"])
    deadline = time.monotonic() + 20
    while host.running and time.monotonic() < deadline:
        time.sleep(0.05)
    assert host.state == "stopped"
    fleet.up(host.name).wait_ssh()
    assert host.state == "running"


def test_a_pulled_cable_is_silence_and_a_plugged_one_is_the_same_boot(fresh_host: FreshHost) -> None:
    host = fresh_host()
    before = host.boot_id
    host.unplug()
    assert host.state == "unplugged"
    with pytest.raises(RackhandError, match="no SSH yet"):
        host.wait_ssh(0.5)
    host.plug()
    host.wait_ssh(10)
    assert host.boot_id == before


def test_a_power_cut_takes_the_host_away_at_once_and_power_on_boots_it(fresh_host: FreshHost) -> None:
    host = fresh_host()
    before = host.boot_id
    host.power_cut()
    assert (host.state, host.pid, host.boot_id) == ("off", None, None)
    with pytest.raises(RackhandError, match="not running"):
        host.run(["true"])
    host.power_on()
    host.wait_ssh()
    assert host.boot_id not in (before, None)


def test_stopping_a_service_in_one_host_leaves_the_other_host_alone(fresh_host: FreshHost) -> None:
    one, two = fresh_host(), fresh_host()
    assert one.run(["systemctl", "kill", "--signal=KILL", "system.slice"]).returncode == 0
    assert one.run(["systemctl", "stop", "ssh.service"]).returncode == 0
    two.wait_ssh(5)
    assert two.run(["systemctl", "is-active", "ssh", "dbus"]).stdout.split() == ["active", "active"]


def test_a_hardened_unit_starts(fresh_host: FreshHost) -> None:
    host = fresh_host()
    host.write("/etc/systemd/system/hardened.service", HARDENED)
    started = host.run(["systemctl", "start", "hardened.service"])
    assert started.returncode == 0, started.stderr
    assert host.run(["systemctl", "is-active", "hardened"]).stdout == "active\n"


def test_what_is_published_on_the_bridge_is_served_to_hosts(fleet: Fleet, fresh_host: FreshHost) -> None:
    host = fresh_host()
    (fleet.places.www / "greeting").write_text("hello")
    assert host.run(["curl", "-fsS", f"{host.repository_url}/greeting"]).stdout == "hello"
    with urllib.request.urlopen(f"{host.repository_url}/greeting", timeout=5) as reply:
        assert reply.read() == b"hello"


def test_bringing_up_a_running_host_changes_nothing(fleet: Fleet, fresh_host: FreshHost) -> None:
    host = fresh_host()
    before = host.boot_id
    assert fleet.up(host.name).boot_id == before
    assert len(supervisor.find(host.machine)) == 2


def test_another_personality_needs_another_host(fleet: Fleet, fresh_host: FreshHost) -> None:
    host = fresh_host("none")
    with pytest.raises(RackhandError, match="made as none on bookworm, not 1xL4 on bookworm"):
        fleet.up(host.name, "1xL4")


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


def test_forwarding_is_put_back_with_the_last_fleet_only(fleet: Fleet, elsewhere: Elsewhere) -> None:
    fleet.reserve("keeps-the-bridge")
    other = elsewhere("other")
    other.reserve("one")
    other.down()
    assert network.FORWARDING.read_text() == "1\n"
