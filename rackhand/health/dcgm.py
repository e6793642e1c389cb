"""What DCGM's short test found; its JSON differs between versions, so only names and verdicts are looked for. Pure."""

from collections.abc import Iterator
from typing import Any

from rackhand.health.notice import notice
from rackhand.health.seen import DcgmSeen
from rackhand.outcome import Finding

FAILED = "fail"


def tested(seen: DcgmSeen | None) -> Iterator[Finding]:
    """Yield the tests that failed; None where DCGM is not installed or was not asked."""
    if seen is None:
        return
    if seen.answer is None:
        yield notice("dcgm-unfinished", seen.detail)
        return
    failed = dict.fromkeys(_failed(seen.answer, ""))
    if failed:
        names = ", ".join(dict.fromkeys(name for name, _ in failed if name))
        yield notice("dcgm-failed", names, evidence=tuple(said for _, said in failed if said))


def _failed(part: Any, name: str) -> Iterator[tuple[str, str]]:
    """Yield the name of each failed test with what was said about it, wherever in the answer it stands."""
    if isinstance(part, list):
        for each in part:
            yield from _failed(each, name)
    elif isinstance(part, dict):
        name = str(part.get("name") or name)
        if str(part.get("status", "")).lower() == FAILED:
            yield name, _words(part.get("warnings"))
        for each in part.values():
            yield from _failed(each, name)


def _words(warnings: Any) -> str:
    if isinstance(warnings, dict):
        return str(warnings.get("warning") or "")
    if isinstance(warnings, list):
        return "; ".join(filter(None, map(_words, warnings)))
    return str(warnings or "")
