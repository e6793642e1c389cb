"""Why an instance was not accepted, in an operator's words: what the host saw, in; one RackhandError, out. Pure."""

from collections.abc import Mapping
from typing import Any

from rackhand.errors import RackhandError
from rackhand.journal import decisive_line, startup_phase

LAST_LINES = 8
READ_THE_JOURNAL = "read its journal on the host: journalctl -u {unit} -n 100"
# What to do about an engine that runs and answers wrongly; {unit} and {port} are filled in.
_LISTENER = "see who listens there (ss -ltnp 'sport = :{port}' on the host)"
_BROKEN = "this vLLM does not generate properly: try another engine_version, or undo the last change to serve_options"
NEXT_STEPS = {
    "gate-timeout": f"it hangs or is overloaded: raise gate_request_timeout_s, or {READ_THE_JOURNAL}",
    "gate-version": f"{_LISTENER}, then run again",
    "gate-model": f"{_LISTENER}, or correct model_name",
    "gate-context": f"{_LISTENER}, or set serve_max_model_len",
    "gate-completion": f"{_LISTENER}; if it is vLLM, try another engine_version",
    "gate-tokens": _BROKEN,
    "gate-finish": _BROKEN,
    "gate-text": _BROKEN,
    "gate-counter": f"{_LISTENER}, or remove disable-log-stats from serve_options",
}
# An engine that answers wrongly but lives: what its journal says has nothing to do with it.
UNTOLD = frozenset(NEXT_STEPS) - {"gate-timeout"}


def died(host: str, item: Mapping[str, Any]) -> RackhandError:
    """Explain an engine that ended while it started: its root cause where the journal names one."""
    ended = item["unit"]["ended"] or item["unit"]["result"]
    return _told(host, item, "engine-died", f"the engine ended while it started ({ended})", READ_THE_JOURNAL)


def down(host: str, item: Mapping[str, Any], what: str) -> RackhandError:
    """Explain an engine that ran once and does not now, or was started again: `what` says it in words."""
    return _told(host, item, "engine-died", what, READ_THE_JOURNAL)


def hopeless(host: str, item: Mapping[str, Any]) -> RackhandError | None:
    """Explain an engine that still runs and has written a line after which waiting is pointless; None without one."""
    found = decisive_line(item["journal"])
    if found is None or not found.fatal:
        return None
    return _told(host, item, found.code, "the engine cannot start", READ_THE_JOURNAL)


def late(host: str, item: Mapping[str, Any], limit_s: int) -> RackhandError:
    """Explain an engine that did not answer in time; names the phase of the start in which it is."""
    phase = startup_phase(item["journal"]) or "before its first line"
    what = f"/health did not answer 200 within {limit_s} s, last seen {phase}"
    again = f"raise gate_start_timeout_s if it only needs longer, else {READ_THE_JOURNAL}"
    return _told(host, item, "gate-start-timeout", what, again)


def rejected(host: str, item: Mapping[str, Any], port: int) -> RackhandError:
    """Explain an engine that did not pass the gate's questions."""
    code = item["failure"]
    if code == "engine-died":
        return _told(host, item, code, _end(item), READ_THE_JOURNAL, symptom=item["what"])
    again = NEXT_STEPS.get(code, READ_THE_JOURNAL).replace("{port}", str(port))
    if code in UNTOLD:
        return RackhandError(code, item["what"], _where(host, item), _filled(again, item))
    return _told(host, item, code, item["what"], again)


def _end(item: Mapping[str, Any]) -> str:
    """Say that the engine is dead, which its process may outlive for a while."""
    ended = item["unit"]["ended"]
    how = f" ({ended})" if ended else ""
    dead = "is dead though its process lives" if item["unit"]["active"] == "active" else f"ended at the gate{how}"
    return f"the engine {dead}"


def _told(host: str, item: Mapping[str, Any], code: str, what: str, again: str, symptom: str = "") -> RackhandError:
    """Add what the journal says; a root cause that it names replaces the symptom and brings its own code and remedy."""
    found = decisive_line(item["journal"])
    if found is None:
        evidence = tuple(line for line in item["journal"] if line.strip())[-LAST_LINES:]
        words = f"{what}: {symptom.rstrip('.')}" if symptom else what
        return RackhandError(code, words, _where(host, item), _filled(again, item), evidence)
    unknown = found.code == "exception"
    known = found.code if code == "engine-died" and not unknown else code
    remedy = again if unknown else found.remedy.rstrip(".")
    words = f"{what}: {found.cause.rstrip('.')}"
    return RackhandError(known, words, _where(host, item), _filled(remedy, item), (found.line,))


def _where(host: str, item: Mapping[str, Any]) -> str:
    return f"{host} {_unit(item)}"


def _filled(words: str, item: Mapping[str, Any]) -> str:
    return words.replace("{unit}", _unit(item))


def _unit(item: Mapping[str, Any]) -> str:
    return f"vllm@{item['name']}"
