"""Write what makes one host of a shared image: names, address, keys, trust."""

import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path

from rackhand.lab import environment, network

SSHD = """\
# One host key is enough; VERBOSE writes a "Starting session" line for every command.
HostKey /etc/ssh/ssh_host_ed25519_key
LogLevel VERBOSE
UseDNS no
MaxStartups 100:30:200
"""
NETWORK_UNIT = """\
[Unit]
Description=Configure the address of this host
DefaultDependencies=no
Wants=network.target
Before=network.target network-pre.target
ConditionPathExists=/sys/class/net/host0

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/sbin/ip -batch /etc/network.batch
"""
NETWORK_BATCH = """\
link set lo up
link set host0 name eth0
addr add {address}/24 dev eth0
link set eth0 up
route add default via {gateway}
"""


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Say who a host is."""

    name: str
    address: str
    gateway: str
    host_key: Path
    authorized_key: Path


def prepare(upper: Path, identity: Identity) -> None:
    """Write the identity into the upper directory of a host that was never booted."""
    _write(upper, "etc/hostname", f"{identity.name}\n")
    _write(upper, "etc/hosts", f"127.0.0.1 localhost\n127.0.1.1 {identity.name}\n::1 localhost ip6-localhost\n")
    # A machine id of its own keeps systemd from treating this as a first boot, which enables units and costs seconds.
    _write(upper, "etc/machine-id", f"{secrets.token_hex(16)}\n")
    _write_network(upper, identity)
    _write_ssh(upper, identity)


def refresh(upper: Path) -> None:
    """Write what may change between two boots: name servers and trusted certificates of the outer machine."""
    _write(upper, "etc/resolv.conf", network.nameservers())
    if environment.CERTIFICATES.is_file():
        target = upper / str(environment.CERTIFICATES).lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(environment.CERTIFICATES, target)


def _write_network(upper: Path, identity: Identity) -> None:
    _write(upper, "etc/systemd/system/address.service", NETWORK_UNIT)
    _write(
        upper,
        "etc/network.batch",
        NETWORK_BATCH.format(address=identity.address, gateway=identity.gateway),
    )
    wanted = upper / "etc/systemd/system/sysinit.target.wants"
    wanted.mkdir(parents=True, exist_ok=True)
    (wanted / "address.service").symlink_to("/etc/systemd/system/address.service")


def _write_ssh(upper: Path, identity: Identity) -> None:
    _write(upper, "etc/ssh/sshd_config.d/practice.conf", SSHD)
    _write(upper, "etc/ssh/ssh_host_ed25519_key", identity.host_key.read_text(), 0o600)
    _write(upper, "etc/ssh/ssh_host_ed25519_key.pub", identity.host_key.with_suffix(".pub").read_text())
    _write(upper, "root/.ssh/authorized_keys", identity.authorized_key.read_text(), 0o600)
    (upper / "root").chmod(0o700)
    (upper / "root/.ssh").chmod(0o700)


def _write(upper: Path, path: str, text: str, mode: int = 0o644) -> None:
    target = upper / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text)
    target.chmod(mode)
