"""What a run did, as frozen data: the report, the table and the tests read nothing else."""

from dataclasses import dataclass, field
from enum import StrEnum

from rackhand.errors import RackhandError


class HostStatus(StrEnum):
    """The verdict on one host; only HEALTHY and UNCHANGED mean that every instance passed the gate."""

    HEALTHY = "healthy"
    UNCHANGED = "unchanged"
    PLANNED = "planned"
    REFUSED = "refused"
    FAILED = "failed"
    UNREACHABLE = "unreachable"
    INTERRUPTED = "interrupted"
    NOT_RUN = "not run"

    @property
    def good(self) -> bool:
        return self in (HostStatus.HEALTHY, HostStatus.UNCHANGED, HostStatus.PLANNED)


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One thing that went wrong, in the words of RackhandError."""

    code: str
    what: str
    where: str
    next_step: str
    evidence: tuple[str, ...] = ()

    @classmethod
    def of(cls, error: RackhandError) -> "Problem":
        return cls(
            code=error.code,
            what=error.what,
            where=error.where,
            next_step=error.next_step,
            evidence=tuple(error.evidence),
        )


@dataclass(frozen=True, kw_only=True)
class StepOutcome:
    """One step on one host; `seconds` is wall time including waiting."""

    name: str
    changed: bool
    summary: str
    seconds: float


@dataclass(frozen=True, kw_only=True)
class InstanceOutcome:
    """One vLLM server; `gate` is 'passed', 'failed' or 'not run', `text` the five tokens that it answered."""

    name: str
    port: int
    gpus: tuple[str, ...]
    gate: str = "not run"
    version: str = ""
    text: str = ""
    ready_s: float | None = None


@dataclass(frozen=True, kw_only=True)
class HostOutcome:
    """One host at the end of a run; `ssh_commands` counts commands sent to it."""

    name: str
    status: HostStatus
    gpus: str = ""
    driver: str = ""
    vllm: str = ""
    model: str = ""
    release: str = ""
    plan: tuple[str, ...] = ()
    instances: tuple[InstanceOutcome, ...] = ()
    steps: tuple[StepOutcome, ...] = ()
    problems: tuple[Problem, ...] = ()
    seconds: float = 0.0
    ssh_commands: int = 0

    @property
    def changed(self) -> bool:
        return any(step.changed for step in self.steps)


@dataclass(frozen=True, kw_only=True)
class RunOutcome:
    """One run over a fleet; times are UTC, ISO 8601."""

    run: str
    command: str
    dry: bool
    started: str
    finished: str
    seconds: float
    hosts: tuple[HostOutcome, ...] = field(default=())

    @property
    def good(self) -> bool:
        return bool(self.hosts) and all(host.status.good for host in self.hosts)
