"""Numbers and names of a run in the words of the page. Pure."""

from collections.abc import Sequence
from datetime import datetime

from rackhand.naming import some
from rackhand.outcome import Comparison, HostOutcome, RunOutcome

NAMED = 12


def duration(seconds: float) -> str:
    """Say how long something took: `0.4 s`, `31.2 s`, `5 min 20 s`, `2 h 5 min`."""
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def clock(seconds: float) -> str:
    """Say a time since the run began as `m:ss`, or `h:mm:ss`."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02}" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def moment(iso: str) -> str:
    """Say a time of the report for people; what is no time stays as it is."""
    try:
        found = datetime.fromisoformat(iso)
    except ValueError:
        return iso
    return f"{found:%Y-%m-%d %H:%M:%S} {found.tzname() or ''}".rstrip()


def counted(count: int, noun: str) -> str:
    """Count things in words."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def names(found: Sequence[str], most: int = NAMED) -> str:
    """Name some, and say how many more there are."""
    return some(found, most)


def release_words(host: HostOutcome) -> str:
    """Say which release served before the turn and which serves after it."""
    before, after = (host.turn.before, host.turn.after) if host.turn else (host.release, host.release)
    # A turn that did not come to its end has no release after it, whatever serves.
    after = after or host.release
    if before == after:
        return before or "none"
    return f"{before or 'none'} → {after or 'none'}"


def out_words(host: HostOutcome) -> str:
    """Say how long none of a host's servers was in service; empty where nobody knows, or none served before."""
    if host.turn is None or (host.turn.out_s is None and not (host.turn.before and host.status.good)):
        return ""
    return "none" if host.turn.out_s is None else duration(host.turn.out_s)


def tokens_words(memory: Comparison | None) -> str:
    """Say how many tokens of KV cache were predicted and how many the engine reported."""
    if memory is None:
        return ""
    both = (memory.predicted_tokens, memory.reported_tokens)
    predicted, reported = (f"{count:,}" if count is not None else "unknown" for count in both)
    return f"{predicted} / {reported}"


def percent_words(percent: float) -> str:
    """Say by how much too many tokens were predicted, without a sign for what is rounded away."""
    return f"{percent:+.1f} %" if abs(percent) >= 0.05 else "0.0 %"


def compared_words(memory: Comparison | None) -> str:
    """Say how far the forecast was off, or that the two numbers are of different things, as on a CPU."""
    if memory is None or None in {memory.predicted_tokens, memory.reported_tokens}:
        return ""
    return "not compared" if memory.percent is None else percent_words(memory.percent)


def no_turn(run: RunOutcome) -> str:
    """Say why there is no timeline, as far as the report tells."""
    if run.stopped:
        return "No host had a turn: the rollout stopped before the first."
    if run.good and not any(host.changed for host in run.hosts):
        return "No host had a turn: nothing had to be disturbed."
    return "No host had a turn in this run."


def end_s(run: RunOutcome) -> float:
    """Return when the last thing of a run ended, in seconds since it began."""
    times = [(host.turn.began_s, host.turn.ended_s) for host in run.hosts if host.turn]
    times += [(wave.began_s or 0.0, wave.ended_s) for wave in run.waves]
    return max([run.seconds, *(second for both in times for second in both if second is not None)])
