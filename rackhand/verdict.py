"""The one sentence at the end of a run."""

from collections.abc import Sequence

from rackhand.naming import some
from rackhand.outcome import HostOutcome, HostStatus, RunOutcome

NAMED = 5
_WORDS = {HostStatus.UNCHANGED: HostStatus.HEALTHY}


def verdict(run: RunOutcome) -> str:
    """Return one sentence: how many hosts got there, which did not, what changed, how long it took."""
    if not run.hosts:
        return "No host took part in this run."
    bad = [host for host in run.hosts if not host.status.good]
    good = [host for host in run.hosts if host.status.good]
    # Hosts that were left alone because of others are no reason of their own.
    guilty = [host for host in bad if host.status is not HostStatus.NOT_RUN] or bad
    alone = [] if run.stopped else [host for host in bad if host not in guilty]
    rest = _sentence(_counts([*good, *alone]), run)
    parts = [f"{len(guilty)} of {hosts_of(len(run.hosts))} {_named(guilty)}"] if guilty else []
    went = [*parts, *([stop] if (stop := stop_words(run)) else []), rest]
    return ("Rollback: " if run.purpose == "rollback" else "") + "; ".join(went)


def stop_words(run: RunOutcome) -> str:
    """Say where a rollout stopped, why, and how those are that it did not come to; empty where it did not stop."""
    if not run.stopped:
        return ""
    return "; ".join([f"stopped {_place(run)}: {run.stopped}".rstrip("."), *untouched_words(run)])


def untouched_words(run: RunOutcome) -> list[str]:
    """Say in one part or two how many hosts were not touched: those that serve as before, and those that never did."""
    rest = [host for host in run.hosts if host.status is HostStatus.NOT_RUN]
    serving = sum(bool(host.release) for host in rest)
    told = [(serving, as_before(serving)), (len(rest) - serving, "")]
    return [f"{hosts_of(count)} {'was' if count == 1 else 'were'} not touched{how}" for count, how in told if count]


def as_before(count: int) -> str:
    """Say of so many hosts, after what became of them, that they serve what they served."""
    return f" and serve{'s' if count == 1 else ''} as before"


def hosts_of(count: int) -> str:
    """Count hosts in words."""
    return f"{count} host{'' if count == 1 else 's'}"


def _place(run: RunOutcome) -> str:
    begun = [wave for wave in run.waves if wave.began_s is not None]
    if not begun:
        return "before the first wave"
    left = {host.name for host in run.hosts if host.status is HostStatus.NOT_RUN}
    return f"{'in' if left & set(begun[-1].hosts) else 'after'} wave {begun[-1].number} of {len(run.waves)}"


def _named(guilty: Sequence[HostOutcome]) -> str:
    kinds = list(dict.fromkeys(host.status for host in guilty))
    named = [f"{kind}: {some([host.name for host in guilty if host.status is kind], NAMED)}" for kind in kinds]
    return named[0] if len(named) == 1 else f"did not get there ({'; '.join(named)})"


def _sentence(counts: list[str], run: RunOutcome) -> str:
    most = max(host.ssh_commands for host in run.hosts)
    commands = f"{most} SSH command{'' if most == 1 else 's'} per host at most"
    return ", ".join([*counts, _changed(run), f"{run.seconds:.1f} s", commands]) + "."


def _changed(run: RunOutcome) -> str:
    changed = [host for host in run.hosts if host.changed]
    return f"changes on {hosts_of(len(changed))}" if changed else "nothing changed"


def _counts(hosts: Sequence[HostOutcome]) -> list[str]:
    words = [_WORDS.get(host.status, host.status) for host in hosts]
    return [f"{hosts_of(words.count(word))} {word}" for word in dict.fromkeys(words)]
