"""What DCGM's short test found; its JSON differs between versions, so only names and verdicts are looked for. Pure."""

from collections.abc import Iterator
from typing import Any

from rackhand.health.notice import notice
from rackhand.health.seen import DcgmSeen
from rackhand.outcome import Finding

FAILED = "fail"
# DCGM's words for how bad an error is (dcgm_errors.h, dcgmErrorSeverity_t): watch it, another setting cures it.
MONITOR, CONFIG = 1, 5


def tested(seen: DcgmSeen | None) -> Iterator[Finding]:
    """Yield what failed, and whether DCGM itself says that a host may compute with it.

    None where DCGM is not installed or was not asked.
    """
    if seen is None:
        return
    if seen.answer is None:
        yield notice("dcgm-unfinished", seen.detail)
        return
    failed = list(_failed(seen.answer, ""))
    if failed:
        names = ", ".join(dict.fromkeys(name for name, _ in failed if name))
        warnings = [warning for _, about in failed for warning in about]
        mild = bool(warnings) and all(_severity(warning) in (MONITOR, CONFIG) for warning in warnings)
        said = tuple(dict.fromkeys(filter(None, map(_words, warnings))))
        yield notice("dcgm-advice" if mild else "dcgm-failed", names, evidence=said)


def _failed(part: Any, name: str) -> Iterator[tuple[str, list[Any]]]:
    """Yield the name of each failed test with the warnings about it, wherever in the answer it stands."""
    if isinstance(part, list):
        for each in part:
            yield from _failed(each, name)
    elif isinstance(part, dict):
        name = str(part.get("name") or name)
        if str(part.get("status", "")).lower() == FAILED:
            warnings = part.get("warnings") or []
            yield name, warnings if isinstance(warnings, list) else [warnings]
        for each in part.values():
            yield from _failed(each, name)


def _severity(warning: Any) -> int | None:
    return warning.get("error_severity") if isinstance(warning, dict) else None


def _words(warning: Any) -> str:
    return str((warning.get("warning") if isinstance(warning, dict) else warning) or "")
