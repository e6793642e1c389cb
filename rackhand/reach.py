"""Reach hosts of an inventory outside of a deploy, for commands that only ask."""

import contextlib
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

# First of all imports: it lets the sockets of all hosts wait at the same time (pyinfra_cli patches them).
import pyinfra_cli  # noqa: F401  # isort: skip
from pyinfra.api import Config, Host, Inventory, State
from pyinfra.context import ctx_state
from pyinfra_cli.exceptions import UnexpectedExternalError
from pyinfra_cli.inventory import make_inventory

from rackhand import arguments
from rackhand.errors import RackhandError, unreachable
from rackhand.session import Session
from rackhand.ssh import tune

CONNECT_TIMEOUT_S = 10
AT_ONCE = 200
Answer = TypeVar("Answer")


def fleet(inventory: str, override: Mapping[str, Any] | None = None) -> arguments.Fleet:
    """Load an inventory exactly as pyinfra does, without its warnings, and name its hosts and groups."""
    return _names(_load(inventory, override))


def ask(
    inventory: str, patterns: Sequence[str], question: Callable[[Session], Answer]
) -> dict[str, Answer | RackhandError]:
    """Put a question to the hosts that the patterns match (all without one), at the same time; answers by host name.

    A host that cannot be reached, and a RackhandError of the question, is an answer, too. Raises RackhandError
    `directory`, `inventory` or `limit`.
    """
    found: list[Inventory] = []

    def load(name: str) -> arguments.Fleet:
        found.append(_readable(name))
        return _names(found[0])

    inventories = sorted(str(path) for path in Path("inventory").glob("*.py"))
    limits = [word for pattern in patterns for word in ("--limit", pattern)]
    arguments.check([inventory, *limits], lambda path: Path(path).exists(), load, inventories)
    known = _names(found[0])
    wanted = frozenset().union(*map(known.matching, patterns)) if patterns else known.hosts
    state = _state(found[0])
    hosts = [host for host in found[0] if host.name in wanted]
    with ctx_state.use(state):
        answers = state.pool.map(lambda host: _answer(host, question), hosts)
    return {host.name: answer for host, answer in zip(hosts, answers, strict=True)}


def _answer(host: Host, question: Callable[[Session], Answer]) -> Answer | RackhandError:
    try:
        host.connect(show_errors=False)
        if not host.connected:
            raise unreachable(host.name)
        tune(host)
        return question(Session(host))
    except RackhandError as error:
        return error
    finally:
        if host.connected:
            host.disconnect()


def _names(found: Inventory) -> arguments.Fleet:
    groups = {name: frozenset(host.name for host in hosts) for name, hosts in found.groups.items() if hosts}
    return arguments.Fleet(hosts=frozenset(found.hosts), groups=groups)


def _readable(inventory: str) -> Inventory:
    """Load an inventory; raises RackhandError `inventory` where its code, or that of its group data, does not run."""
    try:
        return _load(inventory)
    except UnexpectedExternalError as error:
        why = f"{error.filename}: {type(error.exception).__name__}: {error.exception}"
    except (OSError, SyntaxError, ValueError) as error:
        why = f"{inventory}: {type(error).__name__}: {error}"
    what = " ".join(why.split())[:300]
    raise RackhandError("inventory", what, "inventory", "correct that file; pyinfra would not read it either")


def _load(inventory: str, override: Mapping[str, Any] | None = None) -> Inventory:
    logger = logging.getLogger("pyinfra")
    here = str(Path.cwd())
    sys.path += [here] if here not in sys.path else []
    before, logger.disabled = logger.disabled, True
    try:
        running: bool = ctx_state.isset()  # type: ignore[no-untyped-call]
        with contextlib.nullcontext() if running else ctx_state.use(State()):
            found: Inventory = make_inventory(inventory, override_data=dict(override or {}), cwd=here)
        return found
    finally:
        logger.disabled = before


def _state(inventory: Inventory) -> State:
    config: Any = Config
    return State(inventory, config(CONNECT_TIMEOUT=CONNECT_TIMEOUT_S, PARALLEL=AT_ONCE))
