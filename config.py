"""Settings of pyinfra itself; pyinfra executes this file before it reads the inventory."""

import logging
import sys
from pathlib import Path

from pyinfra import config
from pyinfra_cli.inventory import make_inventory

from rackhand import arguments
from rackhand.errors import RackhandError

config.REQUIRE_PYINFRA_VERSION = "~=3.10"
config.CONNECT_TIMEOUT = 10  # seconds
config.PARALLEL = 200  # hosts at once; pyinfra's own default is far lower on a small machine


def _fleet(inventory: str) -> arguments.Fleet:
    """Load an inventory exactly as pyinfra is about to do, without its warnings."""
    # With an address from the command line, any word is a good name for the one host.
    override = {"ssh_hostname": ""} if any("ssh_hostname=" in word for word in sys.argv) else {}
    logger = logging.getLogger("pyinfra")
    logger.disabled = True
    try:
        found = make_inventory(inventory, override_data=override, cwd=str(Path.cwd()))
    finally:
        logger.disabled = False
    groups = {name: frozenset(host.name for host in hosts) for name, hosts in found.groups.items() if hosts}
    return arguments.Fleet(hosts=frozenset(found.hosts), groups=groups)


def _check() -> None:
    inventories = sorted(str(path) for path in Path("inventory").glob("*.py"))
    try:
        arguments.check(sys.argv[1:], lambda path: Path(path).exists(), _fleet, inventories)
    except RackhandError as error:
        sys.exit(f"rackhand: {error}")
    except Exception:
        return  # an inventory that does not load: pyinfra says so next, with the place in the file


# Other programs that run pyinfra in their own process have command lines of their own.
if Path(sys.argv[0]).name in ("pyinfra", "__main__.py"):
    _check()
