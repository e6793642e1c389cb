"""Find in a vLLM's log the line that decides, and how far a start has come. Pure: lines in, words out."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from rackhand import catalog
from rackhand.catalog.failures import Failure, wrappers

COLOUR = re.compile(r"\x1b\[[0-9;]*m")
# journalctl's short format, then processes such as (EngineCore pid=123), then vLLM's or uvicorn's level and place.
PREFIX = re.compile(
    r"^(?:[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \S+ [^\s:]+: )?"
    r"(?:\([A-Za-z][\w ]*?(?: pid=\d+)?(?:, ip=[\d.]+)?\) )*"
    r"(?:(?P<level>DEBUG|INFO|WARNING|ERROR|CRITICAL)(?: \d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)? \[[^\]]*\] ?|: +))?"
)
EXCEPTION = re.compile(r"^(?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception|Failure|Timeout)(?:: \S.*)?$")
QUIET = ("DEBUG", "INFO")
WARNING = "WARNING"
LONGEST_QUOTE = 600


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One decisive line without its prefix, and what it means; `fatal` says that waiting longer is pointless.

    `values` are the numbers and names in the line, such as `needed` and `available` of a cache that is too small.
    """

    line: str
    code: str
    cause: str
    remedy: str
    fatal: bool
    values: Mapping[str, str] = field(default_factory=dict)


def known_failures(lines: Sequence[str]) -> list[Finding]:
    """Return a finding for every line of a known failure, in the order of the lines."""
    messages = [(level, text) for level, text in map(_split, lines) if level not in QUIET]
    return [finding for level, text in messages for _, finding in _known(level, text)]


def decisive_line(lines: Sequence[str]) -> Finding | None:
    """Choose the line that names the root cause of a failed start; None when no line says anything.

    The first line of a known failure wins over every later wrapper; then vague failures, then the last exception.
    """
    messages = [(level, text) for level, text in map(_split, lines) if level not in QUIET]
    known = [finding for level, text in messages for finding in _known(level, text)]
    for vague, fatal, newest in ((False, True, False), (False, False, False), (True, True, True), (True, False, True)):
        found = [finding for failure, finding in known if (failure.vague, finding.fatal) == (vague, fatal)]
        if found:
            return found[-1 if newest else 0]
    return _last_exception([text for level, text in messages if level != WARNING])


def startup_phase(lines: Sequence[str]) -> str | None:
    """Say in words what a starting vLLM does now, from its newest line that tells; None before the first."""
    for line in reversed(lines):
        _, text = _split(line)
        for phase in catalog.phases():
            if found := phase.search(text):
                return phase.fill(phase.words, found)
    return None


def _split(line: str) -> tuple[str, str]:
    """Return level (empty when the line has none) and message."""
    plain = COLOUR.sub("", line).rstrip()
    found = PREFIX.match(plain)
    return ((found["level"] or ""), plain[found.end() :]) if found else ("", plain)


def _known(level: str, text: str) -> Iterator[tuple[Failure, Finding]]:
    warned = level == WARNING
    for failure in catalog.failures():
        if (failure.in_warnings or not warned) and (found := failure.search(text)):
            yield (
                failure,
                Finding(
                    line=_quote(text),
                    code=failure.code,
                    cause=failure.fill(failure.cause, found),
                    remedy=failure.fill(failure.remedy, found),
                    fatal=failure.fatal and not warned,
                    values={name: value for name, value in found.groupdict().items() if value},
                ),
            )
            return


def _last_exception(messages: Sequence[str]) -> Finding | None:
    for text in reversed(messages):
        if EXCEPTION.match(text) and not any(wrapper.search(text) for wrapper in wrappers()):
            return Finding(
                line=_quote(text),
                code="exception",
                cause=f"vLLM ended with {text.split(':', 1)[0].rpartition('.')[2]}.",
                remedy="Read the journal above this line (journalctl -u 'vllm@*'); rackhand does not know the failure.",
                fatal=False,
            )
    return None


def _quote(text: str) -> str:
    text = text.strip()
    return text if len(text) <= LONGEST_QUOTE else f"{text[:LONGEST_QUOTE]}…"
