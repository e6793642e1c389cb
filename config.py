"""Settings of pyinfra itself; pyinfra executes this file before it reads the inventory."""

import sys
from pathlib import Path

from pyinfra import config

from rackhand import arguments, reach
from rackhand.errors import RackhandError

config.REQUIRE_PYINFRA_VERSION = "~=3.10"
config.CONNECT_TIMEOUT = 10  # seconds
config.PARALLEL = 200  # hosts at once; pyinfra's own default is far lower on a small machine


def _fleet(inventory: str) -> arguments.Fleet:
    # With an address from the command line, any word is a good name for the one host.
    return reach.fleet(inventory, {"ssh_hostname": ""} if any("ssh_hostname=" in word for word in sys.argv) else {})


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
