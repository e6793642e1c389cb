"""The health of a host's GPUs within a run: read before anything changes, and again where something did."""

from collections.abc import Iterator, Sequence

from rackhand.catalog.health import health_book
from rackhand.health.host import look, rules
from rackhand.health.judge import judge
from rackhand.health.seen import EngineSeen
from rackhand.outcome import Finding, Problem
from rackhand.plan import Plan, Refusal
from rackhand.run import HostRun


def before(host: HostRun, verdict: Plan | Refusal) -> Plan | Refusal:
    """Refuse a host whose GPUs have what no change of the driver cures; only a driver that works can tell."""
    if isinstance(verdict, Refusal) or host.survey().nvml.state != "ok":
        return verdict
    lasting = health_book().early()
    found = unhealthy(host.name, [each for each in examine(host, verdict, thorough=False) if each.code in lasting])
    return Refusal(host=host.name, cards=verdict.cards, reasons=(found,)) if found else verdict


def examine(host: HostRun, plan: Plan, *, thorough: bool) -> tuple[Finding, ...]:
    """Read and judge the host's GPUs, and keep what was found; `thorough` waits for a fabric and lets DCGM test."""
    settings = host.intent.settings
    engines = [EngineSeen(name=each.name, gpus=plan.uuids(each)) for each in plan.instances]
    seen = look(host.session, patient=thorough, dcgm=thorough and settings.health_dcgm)
    host.findings = judge(host.name, seen, *rules(settings), engines)
    return host.findings


def unhealthy(host: str, findings: Sequence[Finding]) -> Problem | None:
    """Put the findings that block into one problem, the worst first; None where none does."""
    blocking = [each for each in findings if each.blocks]
    if not blocking:
        return None
    first, count = blocking[0], len(blocking) - 1
    place = f"GPU {first.gpu}: " if first.gpu else ""
    more = f", and {count} more finding{'' if count == 1 else 's'}" if count else ""
    what = f"not fit to serve: {place}{first.what} ({first.code}){more}"
    evidence = tuple(line for each in blocking for line in _lines(each, alone=not count))
    return Problem(code="gpu-unhealthy", what=what, where=host, next_step=first.next_step, evidence=evidence)


def _lines(finding: Finding, *, alone: bool) -> Iterator[str]:
    """Say one of several findings with its advice, and quote what shows it."""
    if not alone:
        place = f"GPU {finding.gpu}: " if finding.gpu else ""
        yield f"{place}{finding.what} ({finding.code}) → {finding.next_step}"
    yield from finding.evidence
