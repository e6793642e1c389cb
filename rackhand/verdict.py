"""The one sentence at the end of a run."""

from collections.abc import Sequence

from rackhand.outcome import HostOutcome, HostStatus, RunOutcome

_WORDS = {HostStatus.UNCHANGED: HostStatus.HEALTHY}


def verdict(run: RunOutcome) -> str:
    """Return one sentence: how many hosts got there, which did not, what changed, how long it took."""
    if not run.hosts:
        return "No host took part in this run."
    bad = [host for host in run.hosts if not host.status.good]
    good = [host for host in run.hosts if host.status.good]
    # Hosts that were left alone because of others are no reason of their own.
    guilty = [host for host in bad if host.status is not HostStatus.NOT_RUN] or bad
    rest = _sentence(_counts([*good, *(host for host in bad if host not in guilty)]), run)
    return f"{len(guilty)} of {_hosts(len(run.hosts))} {_named(guilty)}; {rest}" if guilty else rest


def _named(guilty: Sequence[HostOutcome]) -> str:
    kinds = list(dict.fromkeys(host.status for host in guilty))
    named = [f"{kind}: {_names([host.name for host in guilty if host.status is kind])}" for kind in kinds]
    return named[0] if len(named) == 1 else f"did not get there ({'; '.join(named)})"


def _sentence(counts: list[str], run: RunOutcome) -> str:
    most = max(host.ssh_commands for host in run.hosts)
    commands = f"{most} SSH command{'' if most == 1 else 's'} per host at most"
    return ", ".join([*counts, _changed(run), f"{run.seconds:.1f} s", commands]) + "."


def _changed(run: RunOutcome) -> str:
    changed = [host for host in run.hosts if host.changed]
    return f"changes on {_hosts(len(changed))}" if changed else "nothing changed"


def _counts(hosts: Sequence[HostOutcome]) -> list[str]:
    words = [_WORDS.get(host.status, host.status) for host in hosts]
    return [f"{_hosts(words.count(word))} {word}" for word in dict.fromkeys(words)]


def _hosts(count: int) -> str:
    return f"{count} host{'' if count == 1 else 's'}"


def _names(names: Sequence[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
