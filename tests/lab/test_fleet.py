"""Practice hosts boot, reboot and break like real ones."""

import time
import urllib.request
from collections.abc import Callable

import pytest

from rackhand.errors import RackhandError
from rackhand.lab import supervisor
from rackhand.lab.fleet import Fleet
from rackhand.lab.host import LabHost

pytestmark = pytest.mark.lab

FreshHost = Callable[..., LabHost]
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
