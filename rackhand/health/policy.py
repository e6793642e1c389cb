"""Which findings keep a host from serving. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from rackhand.outcome import Finding, Severity
from rackhand.settings import Settings

WORST_FIRST = (Severity.FATAL, Severity.ERROR, Severity.WARNING, Severity.INFO)


@dataclass(frozen=True, kw_only=True)
class Promised:
    """What the inventory says of a host's GPUs; None where it says nothing."""

    gpu_count: int | None = None
    gpu_model: str | None = None


@dataclass(frozen=True, kw_only=True)
class Policy:
    """`block` are severities and codes that block, `ignore` are codes that never do; what is ignored is still told."""

    block: tuple[str, ...] = ("fatal", "error")
    ignore: tuple[str, ...] = ()

    @classmethod
    def of(cls, settings: Settings) -> "Policy":
        return cls(block=settings.health_block, ignore=settings.health_ignore)

    def blocks(self, finding: Finding) -> bool:
        return finding.code not in self.ignore and not {finding.code, finding.severity.value}.isdisjoint(self.block)


def decided(findings: Iterable[Finding], policy: Policy, host: str) -> tuple[Finding, ...]:
    """Fill in whose findings they are and which ones block; those that block come first, then the worst."""
    placed = [
        replace(each, where=f"{host} GPU {each.gpu}" if each.gpu else host, blocks=policy.blocks(each))
        for each in findings
    ]
    order = {severity: place for place, severity in enumerate(WORST_FIRST)}
    return tuple(sorted(placed, key=lambda each: (not each.blocks, order[each.severity], each.gpu, each.code)))
