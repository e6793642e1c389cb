"""`@lab/NAME` for pyinfra: boot the practice host, then be pyinfra's own SSH connector."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pyinfra.api.exceptions import ConnectError, InventoryError
from pyinfra.connectors.ssh import SSHConnector
from pyinfra.connectors.sshuserclient.client import get_host_keys
from typing_extensions import override

from rackhand.errors import RackhandError
from rackhand.lab.fleet import Fleet
from rackhand.lab.host import LabHost

CHECKOUT = Path(__file__).resolve().parents[2]
# A host that came up longer ago than this is not waited for: it is treated as any host that does not answer.
BOOTING_S = 20.0
PARAMIKO = {"channel_timeout": 60, "banner_timeout": 30, "auth_timeout": 30}


class LabConnector(SSHConnector):
    """Boot the practice host on connect; everything else is real SSH.

    `lab_personality` names a file of rackhand/lab/personalities, `lab_suite` a Debian or Ubuntu release.
    """

    @override
    @staticmethod
    def make_names_data(name: str | None) -> Iterator[tuple[str, dict[str, Any], list[str]]]:
        if not name:
            raise InventoryError("@lab needs a host name, e.g. @lab/one")
        try:
            host = Fleet.of(CHECKOUT).reserve(name)
        except RackhandError as error:
            raise InventoryError(str(error)) from error
        yield f"@lab/{name}", _ssh_data(host), ["@lab"]

    @override
    def connect(self) -> None:
        name, wanted = self.host.name.removeprefix("@lab/"), self.host.data
        try:
            host = Fleet.of(CHECKOUT).up(name, wanted.get("lab_personality"), wanted.get("lab_suite", "bookworm"))
            if host.off:
                raise ConnectError(f"no route to {host.address}: its power was cut (rackhand lab up {name})")
            if (host.uptime_s or 0) < BOOTING_S:
                host.wait_ssh()
        except RackhandError as error:
            raise ConnectError(str(error)) from error
        # pyinfra remembers known_hosts files for the whole process; the host may have been made anew since.
        get_host_keys.cache.clear()
        super().connect()


def _ssh_data(host: LabHost) -> dict[str, Any]:
    return {
        "ssh_hostname": host.address,
        "ssh_user": "root",
        "ssh_key": str(host.key),
        "ssh_known_hosts_file": str(host.known_hosts),
        "ssh_strict_host_key_checking": "yes",
        "ssh_config_file": "/dev/null",
        "ssh_paramiko_connect_kwargs": dict(PARAMIKO),
    }
