"""What the phases of a turn are called for people, as one line for each change and as cells of a block. Pure."""

from collections.abc import Sequence

from rackhand.rollout.board_state import BoardState, Ended, Turn

# Words around the instance, and around the detail where it belongs into the middle.
PHRASES = {
    "": "beginning",
    "armed": "beginning",
    "drain": "draining {instance}",
    "drained": "{instance} drained",
    "stop": "stopping {instance}",
    "stopped": "freeing GPU memory {instance}",
    "freed": "{instance} stopped",
    "switched": "switching to release {detail}",
    "start": "starting {instance}",
    "answering": "asking {instance} for five tokens",
    "gated": "{instance} passed the gate",
    "serving": "{instance} serving",
    "accepted": "accepting the release",
    "confirmed": "release confirmed",
    "held": "stopped for the driver",
    "driver": "installing the driver",
    "reload": "loading the driver",
    "reboot": "rebooting",
    "render": "rendering its release",
    "failed": "failed {instance}",
    "restoring": "putting back release {detail}",
    "driver-back": "putting back driver {detail}",
    "restored": "release {detail} serves again",
    "unchanged": "release {detail} left as it was",
    "lost": "release {detail} could not be put back",
}
CLEARING, NOTHING = "stopping what was begun", "stopped, serves nothing"
AGAIN = "{instance} serving again"
# Steps that take no time, or are over when they are told: no line for each, unless there is something to say of them.
QUIET = {"", "armed", "drained", "stopped", "freed", "switched", "gated", "accepted", "confirmed"}
LISTED = 8  # hosts of a wave that are named


def phrase(turn: Turn, instance: str, detail: str = "") -> str:
    """Return what a host is doing, with an instance and a detail or without."""
    return " ".join(_phrase(turn).format(instance=instance, detail=detail).split())


def phase_line(turn: Turn, instance: str) -> str | None:
    """Return the line for a phase that was just told, such as `gpu-3 │ draining llama-0`; None for one without."""
    within = "{detail}" in _phrase(turn)
    told = turn.detail and not within
    if (turn.phase in QUIET and not told and _phrase(turn) != NOTHING) or turn.phase == "switched":
        return None
    words = phrase(turn, instance, turn.detail)
    mark = ": " if turn.phase == "failed" else ", "
    back = "going back: " if turn.back and turn.instances and turn.phase != "failed" else ""
    return f"{turn.host} │ {back}{words}" + (f"{mark}{turn.detail}" if told and _phrase(turn) != NOTHING else "")


def wave_line(state: BoardState) -> str:
    names = state.waves[state.number - 1]
    return f"wave {state.number} of {len(state.waves)}: {listed(names, LISTED)}"


def end_line(end: Ended) -> str:
    return f"{end.host} │ {end.how or 'through'}, {end.seconds:.1f} s"


def soak_line(number: int, seconds: float) -> str:
    return f"soaking for {lasted(seconds)} after wave {number}"


def stop_line(state: BoardState) -> str:
    left = f"; {counted(state.waiting)} will not begin" if state.waiting else ""
    return f"stopped: {state.stopped}{left}"


def summary(state: BoardState, elapsed_s: float) -> str:
    """Return `wave 2 of 4 · 12 of 200 hosts through · 3 in their turn · 1 failed · 4:10 elapsed`."""
    parts = [
        f"wave {state.number} of {len(state.waves)}",
        f"{state.through} of {counted(state.hosts)} through",
        f"{len(state.turns)} in {'its' if len(state.turns) == 1 else 'their'} turn" if state.turns else "",
        f"{state.failed} failed" if state.failed else "",
        f"{lasted(elapsed_s)} elapsed",
    ]
    return " · ".join(part for part in parts if part)


def brief(state: BoardState, elapsed_s: float) -> str:
    """Return the same for a narrow terminal: `wave 2/4 · 12/200 through · 3 in turn · 1 failed · 4:10`."""
    parts = [
        f"wave {state.number}/{len(state.waves)}",
        f"{state.through}/{state.hosts} through",
        f"{len(state.turns)} in turn" if state.turns else "",
        f"{state.failed} failed" if state.failed else "",
        lasted(elapsed_s),
    ]
    return " · ".join(part for part in parts if part)


def stamped(elapsed_s: float, text: str) -> str:
    """Put the time before a line: `[ 12.3 s] …`."""
    return f"[{elapsed_s:5.1f} s] {text}"


def listed(names: Sequence[str], most: int) -> str:
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def counted(hosts: int) -> str:
    return f"{hosts} host{'' if hosts == 1 else 's'}"


def lasted(seconds: float) -> str:
    """Return a duration: `9 s`, `4:10`, `1:02:03`."""
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes = f"{whole // 60 % 60}:{whole % 60:02}"
    return minutes if whole < 3600 else f"{whole // 3600}:{minutes:0>5}"


def _phrase(turn: Turn) -> str:
    if turn.phase == "restoring" and not turn.detail:
        return CLEARING
    if turn.phase == "stopped" and not turn.instances:
        return NOTHING
    if turn.phase == "serving" and turn.left.intersection(turn.instances):
        return AGAIN
    # A word that is not known stands for itself, whatever is in it.
    return PHRASES.get(turn.phase) or turn.phase.replace("{", "{{").replace("}", "}}") + " {instance}"
