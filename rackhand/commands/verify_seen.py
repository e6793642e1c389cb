"""Ask hosts how healthy their GPUs are, in one call each."""

from collections.abc import Mapping
from typing import Any

from rackhand.commands.status_seen import ROUTERS
from rackhand.errors import RackhandError
from rackhand.health.host import HostHealth, examine
from rackhand.outcome import Problem
from rackhand.session import Session


def look(session: Session) -> HostHealth:
    """Ask one host; raises RackhandError."""
    data: dict[str, Any] = session.host.data.dict()  # type: ignore[no-untyped-call]
    return examine(session, data, router=ROUTERS in session.host.groups)


def standings(answers: Mapping[str, HostHealth | RackhandError]) -> tuple[HostHealth, ...]:
    """Return one verdict per host, by name; a host that gave none has its problem."""
    return tuple(
        HostHealth(name=name, problem=Problem.of(found)) if isinstance(found, RackhandError) else found
        for name, found in sorted(answers.items())
    )
