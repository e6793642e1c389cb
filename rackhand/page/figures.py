"""The figures of a run that stand at the top of the page; one that nothing is known of is left out. Pure."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from rackhand.outcome import HostStatus, RunOutcome
from rackhand.page.words import counted, duration, percent_words, tokens_words
from rackhand.report_turns import longest_out


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One number with its name; `note` says what it is made of, `bad` that it is one to worry about."""

    name: str
    value: str
    note: str = ""
    bad: bool = False


@dataclass(frozen=True, kw_only=True)
class Count:
    """How many hosts ended with a status."""

    status: HostStatus
    hosts: int


def counts(run: RunOutcome) -> tuple[Count, ...]:
    """Count the hosts by status, those that did not get there first."""
    found = Counter(host.status for host in run.hosts)
    order = sorted(found, key=lambda status: (status.good, status is HostStatus.NOT_RUN))
    return tuple(Count(status=status, hosts=found[status]) for status in order)


def figures(run: RunOutcome) -> tuple[Figure, ...]:
    """Return what is known of a run in a few numbers."""
    return tuple(found for part in (_hosts, _waves, _out, _back, _cut_off, _memory, _time) for found in part(run))


def _hosts(run: RunOutcome) -> Iterator[Figure]:
    there = sum(host.status.good for host in run.hosts)
    changed = sum(host.changed for host in run.hosts)
    note = f"changes on {counted(changed, 'host')}" if changed else "nothing changed"
    yield Figure(name="hosts there", value=f"{there} of {len(run.hosts)}", note=note, bad=not run.good)


def _waves(run: RunOutcome) -> Iterator[Figure]:
    if run.waves:
        through = sum(wave.ended_s is not None for wave in run.waves)
        hosts = counted(sum(host.turn is not None for host in run.hosts), "host")
        value = f"{through} of {len(run.waves)}"
        yield Figure(name="waves through", value=value, note=f"{hosts} had a turn", bad=through < len(run.waves))


def _out(run: RunOutcome) -> Iterator[Figure]:
    host = longest_out(run)
    if host is not None and host.turn is not None and host.turn.out_s is not None:
        start_s = host.turn.start_s
        start = f", {duration(start_s)} of it engine start" if start_s is not None else ""
        yield Figure(name="out of service", value=duration(host.turn.out_s), note=f"at most ({host.name}){start}")


def _back(run: RunOutcome) -> Iterator[Figure]:
    went = [(host.turn.back_s, host) for host in run.hosts if host.turn and host.turn.back_s is not None]
    if went:
        back_s, host = max(went, key=lambda each: each[0])
        note = f"from the failure until the release before served, {host.name}"
        yield Figure(name="rolled back within", value=duration(back_s), note=note)


def _cut_off(run: RunOutcome) -> Iterator[Figure]:
    drained = [host.turn.cut_off for host in run.hosts if host.turn and host.turn.cut_off is not None]
    if drained:
        note = f"when drains ended, on {counted(len(drained), 'host')}"
        yield Figure(name="requests cut off", value=f"{sum(drained):,}", note=note, bad=any(drained))


def _memory(run: RunOutcome) -> Iterator[Figure]:
    known = [each.memory for host in run.hosts for each in host.instances if each.memory]
    compared = [(each.percent, each) for each in known if each.percent is not None]
    if compared:
        percent, most = max(compared, key=lambda each: abs(each[0]))
        note = f"furthest of {counted(len(compared), 'instance')}: {tokens_words(most)} tokens"
        yield Figure(name="KV forecast off by", value=percent_words(percent), note=note, bad=most.off)


def _time(run: RunOutcome) -> Iterator[Figure]:
    most = max((host.ssh_commands for host in run.hosts), default=0)
    yield Figure(name="wall time", value=duration(run.seconds), note=f"at most {counted(most, 'SSH command')} per host")
