"""The GPUs' health: nothing begins to serve on those that are not fit for it."""

from rackhand import checkup
from rackhand.health.host import CALL_S
from rackhand.operations import Change
from rackhand.run import HostRun


def proven(host: HostRun) -> Change | None:
    """Require that no finding blocks; what was read before the run is believed where nothing has changed since."""
    if not host.live:
        return None
    if _outdated(host):
        with host.waiting("the GPUs to say how they are", CALL_S):
            checkup.examine(host, host.planned, thorough=True)
        host.note("health", findings=[each.code for each in host.findings or ()])
    problem = checkup.unhealthy(host.name, host.findings or ())
    if problem:
        raise host.error(problem.code, problem.what, problem.next_step, problem.evidence)
    return None


def _outdated(host: HostRun) -> bool:
    found = host.findings
    return found is None or host.wants_turn or any(step.changed for step in host.steps) or any(f.blocks for f in found)
