"""The end of a host's run."""

from rackhand.errors import RackhandError
from rackhand.operations import Change
from rackhand.outcome import Problem
from rackhand.render import ROOT
from rackhand.renewal import give_back
from rackhand.run import GPU, HostRun

COLLECT_S = 900


def finish(host: HostRun) -> Change | None:
    """Mark the host as done: every step before this one held. What no release needs any more goes, and the lease."""
    if host.live:
        if host.role == GPU and any(step.changed for step in host.steps):
            _collect(host)
        give_back(host)
        host.finish()
    return None


def _collect(host: HostRun) -> None:
    """Throw old releases away; a host that serves is not blamed where that does not work."""
    try:
        gone = host.call("shelf.collect", COLLECT_S, root=ROOT, keep=host.intent.settings.release_keep)
        if any(gone.values()):
            host.note("collected", **gone)
    except RackhandError as error:
        host.warnings.append(Problem.of(error))
