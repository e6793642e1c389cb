"""What a host owns before its first boot: an address, a host key, and the fleet's key to get in."""

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path

from rackhand.errors import RackhandError
from rackhand.lab import network, shell
from rackhand.lab.places import Places

FIRST_NUMBER, LAST_NUMBER = 10, 250


@dataclass(frozen=True, kw_only=True)
class Reservations:
    """Hold the fleet's subnet (three octets) and the last octet of each host's address."""

    prefix: str
    numbers: dict[str, int]

    def with_host(self, name: str) -> "Reservations":
        """Return these with a number for `name`: from its name alone, unless another host has that one."""
        if name in self.numbers:
            return self
        span = LAST_NUMBER - FIRST_NUMBER + 1
        first = int(hashlib.sha256(name.encode()).hexdigest()[:8], 16)
        order = (FIRST_NUMBER + (first + step) % span for step in range(span))
        free = next((number for number in order if number not in self.numbers.values()), None)
        if free is None:
            raise RackhandError("lab.full", f"all {span} addresses are taken", name, "run: rackhand lab down")
        return replace(self, numbers={**self.numbers, name: free})


def read(fleet: Places) -> Reservations | None:
    """Return what is reserved, or None where there is no fleet, or one of which a crash left nothing legible."""
    try:
        return Reservations(**json.loads(_file(fleet).read_text()))
    except (FileNotFoundError, ValueError):
        return None


def reserve(fleet: Places, name: str) -> Reservations:
    """Reserve an address and keys for `name`; the caller holds the fleet's lock."""
    known = read(fleet) or _first(fleet)
    wanted = known.with_host(name)
    _make_key(fleet.root / "ssh" / "id_ed25519", "lab")
    if wanted != known:
        _write(fleet, wanted)
    known_hosts = fleet.root / "ssh" / name / "known_hosts"
    if not known_hosts.is_file():
        key = known_hosts.with_name("host_key")
        _make_key(key, name)
        known_hosts.write_text(f"{wanted.prefix}.{wanted.numbers[name]} {key.with_suffix('.pub').read_text()}")
    return wanted


def _first(fleet: Places) -> Reservations:
    fleet.make()
    reservations = Reservations(prefix=network.claim(fleet), numbers={})
    _write(fleet, reservations)
    return reservations


def _write(fleet: Places, reservations: Reservations) -> None:
    draft = _file(fleet).with_suffix(".draft")
    draft.write_text(json.dumps({"prefix": reservations.prefix, "numbers": reservations.numbers}, indent=2))
    draft.rename(_file(fleet))


def _file(fleet: Places) -> Path:
    return fleet.root / "reservations.json"


def _make_key(key: Path, comment: str) -> None:
    if key.with_suffix(".pub").is_file():
        return
    key.unlink(missing_ok=True)
    key.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    shell.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(key)])
