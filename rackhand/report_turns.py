"""The lines of a run's table about turns: who went back, who was not touched, how long who was out of service. Pure."""

from collections.abc import Iterator

from rackhand.naming import some
from rackhand.outcome import HostOutcome, HostStatus, RunOutcome
from rackhand.terminal import clean
from rackhand.verdict import as_before, hosts_of

NAMED = 5


def turn_lines(run: RunOutcome) -> Iterator[str]:
    """Yield a line for every host that went back, and one each for the longest outage and for those left alone."""
    yield from (clean(back_words(host)) for host in run.hosts if host.status is HostStatus.ROLLED_BACK)
    if longest := longest_out(run):
        yield clean(out_words(longest))
    for served in (True, False):
        names = [host.name for host in untouched(run) if bool(host.release) is served]
        if names:
            how = as_before(len(names)) if served else ""
            yield clean(f"{hosts_of(len(names))} not touched{how}: {some(names, NAMED)}")


def wave_lines(run: RunOutcome) -> list[str]:
    """Say which hosts would change together, in order; nothing where none would be out of service for a change."""
    return [clean(f"wave {wave.number}: {', '.join(wave.hosts)}") for wave in run.waves]


def untouched(run: RunOutcome) -> list[HostOutcome]:
    """Return the hosts to which a stopped rollout did not come."""
    return [host for host in run.hosts if run.stopped and host.status is HostStatus.NOT_RUN]


def longest_out(run: RunOutcome) -> HostOutcome | None:
    """Return the host that was out of service for the longest time; None where none was."""
    out = [host for host in run.hosts if host.turn and host.turn.out_s is not None]
    return max(out, key=lambda host: (host.turn and host.turn.out_s) or 0.0, default=None)


def out_words(host: HostOutcome) -> str:
    """Say that no host was out of service for longer than this one, and how much of that its engines needed."""
    if host.turn is None or host.turn.out_s is None:
        return ""
    start = f", {host.turn.start_s:.1f} s of it the engine's own start" if host.turn.start_s is not None else ""
    return f"out of service for {host.turn.out_s:.1f} s at most ({host.name}){start}"


def back_words(host: HostOutcome) -> str:
    """Say to what a host went back, and how soon that served."""
    release = f"release {host.release}" if host.release else "what it served before"
    version = f" (vLLM {host.vllm})" if host.vllm else ""
    back_s = host.turn.back_s if host.turn else None
    soon = f", {back_s:.1f} s after the failure" if back_s is not None else ""
    driver = f"; {host.turn.driver.words}" if host.turn and host.turn.driver else ""
    return f"{host.name} rolled back: {release}{version} serves again{soon}{driver}"
