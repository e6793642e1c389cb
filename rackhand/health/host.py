"""How one host's GPUs are: asked in one call, judged by the host's own settings."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rackhand import payload, settings
from rackhand.health.judge import judge
from rackhand.health.policy import Policy, Promised
from rackhand.health.seen import Seen, parse
from rackhand.outcome import Finding, Problem, Severity
from rackhand.render import ROOT
from rackhand.run import Caller
from rackhand.settings import Settings

READ = ("health_", "gpu_")
# A fabric that is being set up is waited for, in seconds; DCGM's short test takes some.
FABRIC_S, DCGM_S = 60, 180
CALL_S = 480
STATUSES = HEALTHY, DEGRADED, UNHEALTHY, NONE, FAILED, UNREACHABLE = (
    "healthy", "degraded", "unhealthy", "no GPU", "failed", "unreachable",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class HostHealth:
    """One host; `problem` says why it could not be asked, and then nothing else is known.

    `bare` is a router without GPUs of its own, of which nothing is asked.
    """

    name: str
    seen: Seen | None = None
    findings: tuple[Finding, ...] = ()
    problem: Problem | None = None
    bare: bool = False

    @property
    def status(self) -> str:
        """One of STATUSES."""
        if self.problem is not None:
            return UNREACHABLE if self.problem.code == "unreachable" else FAILED
        if self.bare:
            return NONE
        if any(each.blocks for each in self.findings):
            return UNHEALTHY
        return DEGRADED if any(each.severity is not Severity.INFO for each in self.findings) else HEALTHY


def examine(session: Caller, data: Mapping[str, Any], *, router: bool) -> HostHealth:
    """Ask one host and judge it; settings about anything else need not be complete. Raises RackhandError."""
    wished = settings.part(data, READ, session.name)
    seen = look(session, patient=True, dcgm=wished.health_dcgm)
    if router and not any(each.device_class.startswith(("0x0300", "0x0302")) for each in seen.pci):
        return HostHealth(name=session.name, seen=seen, bare=True)
    return HostHealth(name=session.name, seen=seen, findings=judge(session.name, seen, *rules(wished)))


def look(session: Caller, *, patient: bool, dcgm: bool) -> Seen:
    """Read everything in one call; nothing is changed. Raises RackhandError.

    `patient` waits for a fabric that is being set up, `dcgm` lets DCGM run its short test where it is installed.
    """
    answer = session.call(
        "health.look",
        CALL_S,
        root=ROOT,
        loader=payload.LOADER,
        nvml_payload=payload.health_nvml(FABRIC_S if patient else 0),
        cuda_payload=payload.health_cuda(),
        nvml_s=2 * FABRIC_S,
        dcgm_s=DCGM_S if dcgm else 0,
    )
    return parse(answer, session.name)


def rules(wished: Settings) -> tuple[Policy, Promised]:
    """Return what the settings say about blocking and about the GPUs that are there."""
    return Policy.of(wished), Promised(gpu_count=wished.gpu_count, gpu_model=wished.gpu_model)
