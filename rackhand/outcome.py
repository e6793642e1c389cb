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
    ROLLED_BACK = "rolled back"
    NOT_RUN = "not run"

    @property
    def good(self) -> bool:
        return self in (HostStatus.HEALTHY, HostStatus.UNCHANGED, HostStatus.PLANNED)


class Severity(StrEnum):
    """How bad a finding about a host's health is; ERROR and FATAL keep it from serving unless it is told otherwise."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    FATAL = "fatal"


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
class Finding(Problem):
    """One thing about a host's health; `gpu` is a PCI address, empty where it is about the host as a whole.

    `blocks` says that by the host's settings nothing may begin to serve there before it is cured.
    """

    severity: Severity
    gpu: str = ""
    blocks: bool = False


@dataclass(frozen=True, kw_only=True)
class StepOutcome:
    """One step on one host; `seconds` is wall time including waiting."""

    name: str
    changed: bool
    summary: str
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Compared:
    """One term of the memory bill, as predicted and as the engine reported it; None where nobody said it."""

    name: str
    predicted_mib: float | None
    reported_mib: float | None


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The forecast of one instance against the truth; `percent` is by how much too many tokens were predicted.

    `off` says that they differ too much; `words` are for a person. Where the engine does not run on a GPU, or nothing
    was predicted, nothing is off.
    """

    predicted_tokens: int | None
    reported_tokens: int | None
    percent: float | None = None
    concurrency: float | None = None
    terms: tuple[Compared, ...] = ()
    off: bool = False
    words: str = ""


@dataclass(frozen=True, kw_only=True)
class InstanceOutcome:
    """One vLLM server; `gate` is 'passed', 'failed' or 'not run', `text` the five tokens that it answered.

    `memory` is None where nobody has read the engine's report; `ready_s` is None where it was not started in this run.
    `restarts` is how often systemd had to start it again since it was started on purpose; None where nobody asked.
    """

    name: str
    port: int
    gpus: tuple[str, ...]
    gate: str = "not run"
    version: str = ""
    text: str = ""
    ready_s: float | None = None
    restarts: int | None = None
    memory: Comparison | None = None


@dataclass(frozen=True, kw_only=True)
class TurnEvent:
    """One moment of a host's turn, as the host told it (docs/reference/report.md lists the phases).

    `at_s` is in seconds since the run began, by the controller's clock; `instance` is empty for the host as a whole.
    """

    at_s: float
    phase: str
    instance: str = ""
    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class DriverBack:
    """The driver on the way back: versions that were left and returned to; `why` says what was in the way."""

    left: str
    to: str
    restored: bool
    why: str = ""

    @property
    def words(self) -> str:
        back = f"driver rolled back {self.left} → {self.to}"
        return back if self.restored else f"driver not rolled back, {self.left} stays: {self.why}"


@dataclass(frozen=True, kw_only=True)
class TurnOutcome:
    """One host's turn in the rollout; seconds since the run began.

    `wave` counts from 1, the canary's. `out_s` is for how long none of the host's servers was in service, `start_s` how
    much of it the engines needed from their start to their first healthy answer; None where nothing was interrupted.
    `back_s` is the time from the failed gate until the old release served again. `cut_off` is the number of requests
    that still ran when the drain's time was over; None where no drain came to its end. `driver` had to go back as well.
    """

    wave: int
    began_s: float
    ended_s: float | None = None
    before: str = ""
    after: str = ""
    out_s: float | None = None
    start_s: float | None = None
    back_s: float | None = None
    cut_off: int | None = None
    driver: DriverBack | None = None
    events: tuple[TurnEvent, ...] = ()


@dataclass(frozen=True, kw_only=True)
class WaveOutcome:
    """One wave as it was planned and as it went; `began_s` is None where it never began."""

    number: int
    hosts: tuple[str, ...]
    began_s: float | None = None
    ended_s: float | None = None


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One thing that the new release has otherwise than the one before it, such as `vLLM` or `tiny-0: max-num-seqs`.

    `before` or `after` is empty where the other release does not say it. Never a secret.
    """

    name: str
    before: str
    after: str


@dataclass(frozen=True, kw_only=True)
class HostOutcome:
    """One host at the end of a run; `ssh_commands` counts commands sent to it. `role` is "gpu" or "router".

    `release` is the one that serves now; `differences` are between the release before the run and the wished one, also
    where the host went back. `findings` are those of the health check, the worst first; empty where none ran.
    """

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
    warnings: tuple[Problem, ...] = ()
    seconds: float = 0.0
    ssh_commands: int = 0
    role: str = "gpu"
    turn: TurnOutcome | None = None
    differences: tuple[Difference, ...] = ()
    findings: tuple[Finding, ...] = ()

    @property
    def changed(self) -> bool:
        return any(step.changed for step in self.steps)


@dataclass(frozen=True, kw_only=True)
class RunOutcome:
    """One run over a fleet; times are UTC, ISO 8601. `stopped` says why a rollout ended early, empty if it did not.

    `owner` is who ran it and from where, as "user@machine".
    """

    run: str
    command: str
    dry: bool
    started: str
    finished: str
    seconds: float
    hosts: tuple[HostOutcome, ...] = field(default=())
    purpose: str = "deploy"
    waves: tuple[WaveOutcome, ...] = ()
    stopped: str = ""
    owner: str = ""

    @property
    def good(self) -> bool:
        return bool(self.hosts) and all(host.status.good for host in self.hosts)
