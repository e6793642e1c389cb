"""The fleet's own network: one bridge, one subnet, one nftables table that lets the hosts out."""

import ipaddress
import json
import re
from pathlib import Path

from rackhand.errors import RackhandError
from rackhand.lab import lock, places, shell
from rackhand.lab.places import Places

HTTP_PORT = 8480
FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")
# Lives as long as the kernel setting that it remembers.
FORWARDING_WAS_OFF = Path("/run/rackhand-lab-forwarding-was-off")
LOCK_TIMEOUT_S = 60


def claim(fleet: Places) -> str:
    """Choose a free /24, claim it by raising the bridge on it, and return its first three octets."""
    with lock.exclusive(places.locks() / "network.lock", LOCK_TIMEOUT_S):
        shell.attempt(["ip", "link", "delete", fleet.bridge])
        taken = _routes()
        for prefix in _candidates(fleet.digest):
            if not any(ipaddress.IPv4Network(f"{prefix}.0/24").overlaps(route) for route in taken):
                _raise_bridge(fleet, prefix)
                return prefix
    raise RackhandError("lab.subnet", "no free /24 between 10.200 and 10.219", "this machine", "see: ip route")


def ensure(fleet: Places, prefix: str) -> None:
    """Put back what a reboot or a reload of the outer firewall took; raise lab.subnet if others have the subnet now."""
    with lock.exclusive(places.locks() / "network.lock", LOCK_TIMEOUT_S):
        if Path(f"/sys/class/net/{fleet.bridge}").exists():
            _let_out(fleet, prefix)
            return
        if any(ipaddress.IPv4Network(f"{prefix}.0/24").overlaps(route) for route in _routes()):
            raise RackhandError(
                "lab.subnet", f"{prefix}.0/24 is in use by somebody else now", fleet.bridge, "run: rackhand lab down"
            )
        _raise_bridge(fleet, prefix)


def remove(fleet: Places) -> None:
    """Remove every link and the table of this fleet, whatever is left of them."""
    with lock.exclusive(places.locks() / "network.lock", LOCK_TIMEOUT_S):
        for link in _links(fleet):
            shell.attempt(["ip", "link", "delete", link])
        shell.attempt(["nft", "delete", "table", "ip", fleet.table])
        _restore_forwarding()


def nameservers() -> str:
    """Return a resolv.conf that works away from the outer machine's loopback."""
    for file in (Path("/etc/resolv.conf"), Path("/run/systemd/resolve/resolv.conf")):
        lines = file.read_text().splitlines() if file.is_file() else []
        kept = [line for line in lines if not re.match(r"nameserver\s+(127\.|::1)", line)]
        if any(line.startswith("nameserver") for line in kept):
            return "\n".join(kept) + "\n"
    return ""


def _candidates(digest: str) -> list[str]:
    first = int(digest[:6], 16)
    return [
        f"10.{200 + slot // 256}.{slot % 256}" for slot in ((first + step) % (20 * 256) for step in range(20 * 256))
    ]


def _routes() -> list[ipaddress.IPv4Network]:
    routes = json.loads(shell.run(["ip", "-json", "-4", "route", "show", "table", "all"]) or "[]")
    found = (str(route.get("dst", "default")) for route in routes)
    return [
        ipaddress.IPv4Network(text, strict=False) for text in found if re.match(r"\d+\.\d+\.\d+\.\d+(/\d+)?$", text)
    ]


def _raise_bridge(fleet: Places, prefix: str) -> None:
    bridge = f"link add {fleet.bridge} type bridge forward_delay 0\naddr add {prefix}.1/24 dev {fleet.bridge}\n"
    shell.run(["ip", "-batch", "-"], stdin=f"{bridge}link set {fleet.bridge} up\n")
    _let_out(fleet, prefix)


def _let_out(fleet: Places, prefix: str) -> None:
    shell.run(["nft", "-f", "-"], stdin=_table(fleet, prefix))
    if FORWARDING.read_text().strip() == "0":
        FORWARDING_WAS_OFF.touch()
        FORWARDING.write_text("1\n")


def _table(fleet: Places, prefix: str) -> str:
    """Declare, empty and declare again: nft's way to replace a table in one transaction."""
    rule = f'ip saddr {prefix}.0/24 oifname != "{fleet.bridge}" masquerade'
    chain = f"chain out {{ type nat hook postrouting priority srcnat; {rule}; }}"
    return f"table ip {fleet.table}\ndelete table ip {fleet.table}\ntable ip {fleet.table} {{ {chain}; }}\n"


def _links(fleet: Places) -> list[str]:
    names = sorted(path.name for path in Path("/sys/class/net").iterdir())
    return [name for name in names if name == fleet.bridge or name.startswith(f"vb-{fleet.digest[:6]}-")]


def _restore_forwarding() -> None:
    others = [path for path in Path("/sys/class/net").glob("rh*") if re.fullmatch("rh[0-9a-f]{6}", path.name)]
    if not others and FORWARDING_WAS_OFF.exists():
        FORWARDING.write_text("0\n")
        FORWARDING_WAS_OFF.unlink()
