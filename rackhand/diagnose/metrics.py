"""Read vLLM's /metrics: gauges, counters and histograms of one moment or between two. Pure: text in, numbers out."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from rackhand.catalog.signals import Metric, metric_names
from rackhand.errors import RackhandError

# A window with fewer finished requests says less than everything since the start.
ENOUGH = 10


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """A Prometheus histogram: `buckets` are (upper bound, observations up to it), the last bound is infinite."""

    buckets: tuple[tuple[float, float], ...]
    total: float

    @property
    def count(self) -> float:
        return self.buckets[-1][1] if self.buckets else 0.0

    @property
    def mean(self) -> float | None:
        return self.total / self.count if self.count > 0 else None

    def quantile(self, part: float) -> float | None:
        """Return the value below which `part` (0 to 1) of the observations lie, linear within a bucket; None if empty.

        As Prometheus' histogram_quantile: what lies in the last, infinite bucket is taken for its lower bound.
        """
        if self.count <= 0:
            return None
        rank, below = part * self.count, (0.0, 0.0)
        for bound, upto in self.buckets:
            if upto >= rank and upto > below[1]:
                share = (rank - below[1]) / (upto - below[1])
                return below[0] if math.isinf(bound) else below[0] + (bound - below[0]) * share
            below = (bound, upto)
        return below[0]

    def since(self, before: "Histogram") -> "Histogram":
        """Return what was added after `before`; everything when the engine started anew in between."""
        old = dict(before.buckets)
        pairs = tuple((bound, upto - old.get(bound, 0.0)) for bound, upto in self.buckets)
        fell = any(upto < 0 for _, upto in pairs) or any(high < low for (_, low), (_, high) in pairwise(pairs))
        return self if fell else Histogram(buckets=pairs, total=self.total - before.total)


@dataclass(frozen=True, kw_only=True)
class Counts:
    """What happened in a span of time; None where the page does not say. Times in seconds, lengths in tokens."""

    preemptions: float | None = None
    rejections: float | None = None
    prefix_queries: float | None = None
    prefix_hits: float | None = None
    finished: Mapping[str, float] = field(default_factory=dict)
    ttft: Histogram | None = None
    tpot: Histogram | None = None
    queue: Histogram | None = None
    prefill: Histogram | None = None
    prompt_tokens: Histogram | None = None
    output_tokens: Histogram | None = None


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """Gauges at every moment that was looked at, and counts: since the engine's start, and between first and last look.

    `seconds` is the time between first and last look, None when there was one look; `recent` is `total` then.
    """

    running: tuple[float, ...]
    waiting: tuple[float, ...]
    kv_usage: tuple[float, ...]
    total: Counts
    recent: Counts
    seconds: float | None = None
    cache: Mapping[str, str] = field(default_factory=dict)

    @property
    def latencies(self) -> Counts:
        """What happened lately if that was enough to judge, else since the start."""
        lately = self.recent.ttft
        return self.recent if lately is not None and lately.count >= ENOUGH else self.total


def traffic(pages: Sequence[str], where: str, seconds: float | None = None) -> Traffic:
    """Read pages of /metrics, the oldest first; raises RackhandError `metrics` when one holds nothing of vLLM's."""
    looks = [_Page(text, where) for text in pages]
    last = _counts(looks[-1])
    return Traffic(
        running=_gauges(looks, Metric.RUNNING),
        waiting=_gauges(looks, Metric.WAITING),
        kv_usage=_gauges(looks, Metric.KV_USAGE),
        total=last,
        recent=_since(last, _counts(looks[0])) if len(looks) > 1 else last,
        seconds=seconds if len(looks) > 1 else None,
        cache=next((dict(sample.labels) for sample in looks[-1].rows(Metric.CACHE_CONFIG)), {}),
    )


class _Page:
    """The samples of one page by name; lines that are no samples are left out: other programs write pages, too."""

    def __init__(self, text: str, where: str) -> None:
        self.samples: dict[str, list[Sample]] = {}
        for sample in _samples(text):
            self.samples.setdefault(sample.name, []).append(sample)
        if not any(name.startswith("vllm:") for name in self.samples):
            raise RackhandError(
                "metrics", "holds no metric of vLLM", where, "give the text of a vLLM's /metrics, or its address"
            )

    def rows(self, meaning: Metric, suffix: str = "") -> list[Sample]:
        names = (name + suffix for name in metric_names(meaning))
        return next((self.samples[name] for name in names if name in self.samples), [])

    def sum(self, meaning: Metric, suffix: str = "") -> float | None:
        """Add up the engines of one server; None when the page does not have it."""
        rows = self.rows(meaning, suffix)
        return sum(row.value for row in rows) if rows else None

    def highest(self, meaning: Metric) -> float | None:
        return max((row.value for row in self.rows(meaning)), default=None)

    def by(self, meaning: Metric, label: str) -> dict[str, float]:
        found: dict[str, float] = {}
        for row in self.rows(meaning):
            found[row.labels.get(label, "")] = found.get(row.labels.get(label, ""), 0.0) + row.value
        return found

    def histogram(self, meaning: Metric) -> Histogram | None:
        buckets: dict[float, float] = {}
        for row in self.rows(meaning, "_bucket"):
            if (bound := _number(row.labels.get("le", ""))) is not None:
                buckets[bound] = buckets.get(bound, 0.0) + row.value
        return (
            Histogram(buckets=tuple(sorted(buckets.items())), total=self.sum(meaning, "_sum") or 0.0)
            if buckets
            else None
        )


def _samples(text: str) -> Iterator[Sample]:
    """Parse line by line: one line that is not in the format must not cost the others."""
    for line in text.splitlines():
        if line.startswith("#") or not line.strip():
            continue
        try:
            found = [sample for family in text_string_to_metric_families(line + "\n") for sample in family.samples]
        except (ValueError, IndexError, KeyError):
            continue
        yield from (sample for sample in found if math.isfinite(sample.value))


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return None if math.isnan(value) else value


def _gauges(looks: Sequence[_Page], meaning: Metric) -> tuple[float, ...]:
    # Usage is a share of each engine's own cache: the fullest counts, and shares do not add up.
    values = [look.highest(meaning) if meaning is Metric.KV_USAGE else look.sum(meaning) for look in looks]
    return tuple(value for value in values if value is not None)


def _counts(page: _Page) -> Counts:
    return Counts(
        preemptions=page.sum(Metric.PREEMPTIONS),
        rejections=page.sum(Metric.REJECTIONS),
        prefix_queries=page.sum(Metric.PREFIX_QUERIES),
        prefix_hits=page.sum(Metric.PREFIX_HITS),
        finished=page.by(Metric.FINISHED, "finished_reason"),
        ttft=page.histogram(Metric.TTFT),
        tpot=page.histogram(Metric.TPOT),
        queue=page.histogram(Metric.QUEUE),
        prefill=page.histogram(Metric.PREFILL),
        prompt_tokens=page.histogram(Metric.PROMPT_TOKENS),
        output_tokens=page.histogram(Metric.OUTPUT_TOKENS),
    )


def _since(now: Counts, before: Counts) -> Counts:
    return Counts(
        preemptions=_grown(now.preemptions, before.preemptions),
        rejections=_grown(now.rejections, before.rejections),
        prefix_queries=_grown(now.prefix_queries, before.prefix_queries),
        prefix_hits=_grown(now.prefix_hits, before.prefix_hits),
        finished={name: _grown(count, before.finished.get(name)) or 0.0 for name, count in now.finished.items()},
        ttft=_added(now.ttft, before.ttft),
        tpot=_added(now.tpot, before.tpot),
        queue=_added(now.queue, before.queue),
        prefill=_added(now.prefill, before.prefill),
        prompt_tokens=_added(now.prompt_tokens, before.prompt_tokens),
        output_tokens=_added(now.output_tokens, before.output_tokens),
    )


def _grown(now: float | None, before: float | None) -> float | None:
    """A counter that fell was begun anew."""
    return now if now is None or before is None or now < before else now - before


def _added(now: Histogram | None, before: Histogram | None) -> Histogram | None:
    return now if now is None or before is None else now.since(before)
