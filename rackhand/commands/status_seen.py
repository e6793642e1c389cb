"""Ask hosts how they stand, in one call each."""

from collections.abc import Mapping
from typing import Any

from rackhand import payload
from rackhand.catalog import pinned_patterns
from rackhand.errors import RackhandError
from rackhand.outcome import Problem
from rackhand.render import ROOT
from rackhand.session import Session
from rackhand.status.hosts import HostStanding, judge
from rackhand.status.seen import parse

CALL_S = 180
ROUTERS = "routers"  # the group of an inventory whose hosts are routers


def look(session: Session, probe_s: int | None) -> HostStanding:
    """Ask one host; with `probe_s` its instances answer five tokens within so many seconds, or fail."""
    wished: dict[str, Any] = session.host.data.dict()  # type: ignore[no-untyped-call]
    answer = session.call(
        "status.status",
        CALL_S + (probe_s or 0),
        root=ROOT,
        packages=[*pinned_patterns()],
        loader=payload.LOADER,
        nvml_payload=payload.nvml_probe(),
        probe_s=probe_s,
    )
    return judge(session.name, parse(answer, session.name), wished, router=ROUTERS in session.host.groups)


def standings(answers: Mapping[str, HostStanding | RackhandError]) -> tuple[HostStanding, ...]:
    """Return one standing per host, by name; a host that gave none has its problem."""
    return tuple(
        HostStanding(name=name, problem=Problem.of(found)) if isinstance(found, RackhandError) else found
        for name, found in sorted(answers.items())
    )
