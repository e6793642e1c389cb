"""Findings for people: how bad each is, in a word or two, and the same of several GPUs once. Pure."""

from collections.abc import Sequence
from dataclasses import replace

from rackhand.outcome import Finding, Severity

MOST_GPUS = 2
GPU = " GPU "


def before(finding: Finding) -> str:
    """Return what a line about a finding begins with."""
    return f"{weight(finding)}: "


def weight(finding: Finding) -> str:
    """Say how bad a finding is, and where that is not what follows from it, whether it blocks."""
    bad = finding.severity in (Severity.ERROR, Severity.FATAL)
    if finding.blocks:
        return f"{finding.severity}" if bad else f"{finding.severity}, blocks"
    return f"{finding.severity}, ignored" if bad else f"{finding.severity}"


def placed(findings: Sequence[Finding]) -> list[Finding]:
    """Name a host once where the same is the matter with several of its GPUs."""
    alike: dict[tuple[str, str, str, tuple[str, ...]], list[Finding]] = {}
    for each in findings:
        alike.setdefault((each.where.partition(GPU)[0], each.code, each.what, each.evidence), []).append(each)
    return [replace(group[0], where=_where(host, group)) for (host, *_), group in alike.items()]


def _where(host: str, group: Sequence[Finding]) -> str:
    gpus = [each.gpu for each in group if each.gpu]
    if len(gpus) > MOST_GPUS:
        return f"{host} ({len(gpus)} GPUs)"
    return f"{host} GPU{'s' if len(gpus) > 1 else ''} {' and '.join(gpus)}" if gpus else host
