"""signals.yaml: metric names of vLLM by what they mean, journal lines worth a number, and slow attention kernels."""

from collections.abc import Sequence
from enum import StrEnum
from functools import cache
from typing import Annotated, Self

from pydantic import Field, model_validator

from rackhand.catalog.book import HERE, Book, Entry, read
from rackhand.catalog.failures import Line

Capability = tuple[int, int]


class Metric(StrEnum):
    """What is measured, whatever a version of vLLM calls it."""

    RUNNING = "running"
    WAITING = "waiting"
    KV_USAGE = "kv-usage"
    PREEMPTIONS = "preemptions"
    REJECTIONS = "rejections"
    PREFIX_QUERIES = "prefix-queries"
    PREFIX_HITS = "prefix-hits"
    FINISHED = "finished"
    CACHE_CONFIG = "cache-config"
    TTFT = "ttft"
    TPOT = "tpot"
    QUEUE = "queue"
    PREFILL = "prefill"
    PROMPT_TOKENS = "prompt-tokens"
    OUTPUT_TOKENS = "output-tokens"


class Told(StrEnum):
    """What a journal line tells."""

    VERSION = "version"
    OPTIONS = "options"
    QUANTIZATION = "quantization"
    PREFIX_CACHING = "prefix-caching"
    CONTEXT = "context"
    BACKEND = "backend"
    OFFLOADER = "offloader"
    KV_WITHIN_SHARE = "kv-within-share"
    KV_WHOLE_CARD = "kv-whole-card"


class MetricNames(Entry):
    """The names of one metric, the newest first."""

    meaning: Metric
    names: Annotated[tuple[str, ...], Field(min_length=1)]


class TellingLine(Line):
    """A line with a group `value`."""

    meaning: Told

    @model_validator(mode="after")
    def _has_a_value(self) -> Self:
        if self.missing_groups("{value}"):
            raise ValueError(f"{self.meaning}: no group named value in the pattern")
        return self


class SlowBackend(Entry):
    """An attention kernel that is a surprise on cards from `since` up to, not including, `before`."""

    name: str
    since: Capability
    before: Capability | None = None

    def surprises(self, capability: Capability) -> bool:
        return self.since <= capability and (self.before is None or capability < self.before)


class SignalBook(Book):
    """The whole file; every meaning has exactly one entry."""

    metrics: tuple[MetricNames, ...]
    lines: tuple[TellingLine, ...]
    slow_backends: tuple[SlowBackend, ...]

    @model_validator(mode="after")
    def _every_meaning_once(self) -> Self:
        if sorted(row.meaning for row in self.metrics) != sorted(Metric):
            raise ValueError("metrics: every meaning needs exactly one entry")
        if sorted(row.meaning for row in self.lines) != sorted(Told):
            raise ValueError("lines: every meaning needs exactly one entry")
        return self


@cache
def signal_book() -> SignalBook:
    """Return the checked file."""
    return read(SignalBook, HERE / "signals.yaml")


def metric_names(meaning: Metric) -> tuple[str, ...]:
    """Return the names of a metric, the newest first."""
    return next(row.names for row in signal_book().metrics if row.meaning is meaning)


def told(meaning: Told, lines: Sequence[str]) -> str | None:
    """Return what the newest line that tells it says; None when no line does."""
    row = next(row for row in signal_book().lines if row.meaning is meaning)
    for line in reversed(lines):
        if found := row.search(line):
            return found["value"]
    return None


def slow_backend(name: str, capability: Capability) -> bool:
    """Tell whether a card of this compute capability should have got a faster attention kernel."""
    return any(row.name == name and row.surprises(capability) for row in signal_book().slow_backends)
