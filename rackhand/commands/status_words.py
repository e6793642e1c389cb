"""How a fleet stands, in words: what all share, a table, every drift once with the hosts that it is about."""

from collections import Counter
from collections.abc import Iterator, Sequence

from rich.text import Text

from rackhand.commands import fleet_words
from rackhand.commands.fleet_words import Row
from rackhand.status.hosts import GOOD, STATUSES, HostStanding
from rackhand.status.instances import Standing, State, span
from rackhand.terminal import Terminal

COLUMNS = (
    "host", "status", "release", "since", "vLLM", "model", "driver", "disk free",
    "instance", "state", "up", "restarts", "KV tokens",
)  # fmt: skip
NUMBERS = ("since", "disk free", "up", "restarts", "KV tokens")
# Said once above the table where all hosts agree.
SHAREABLE = ("release", "vLLM", "model", "driver")
# Left out where the terminal is too narrow, the first one first.
SPARE = ("disk free", "KV tokens", "since", "restarts", "model", "driver", "vLLM", "up")
STYLES = {"good": "green", "drift": "yellow", "serving": "green", "up": "green", "starting": "yellow"}
BAD = "bold red"
# More hosts than this, and those that are well are counted.
MOST_HOSTS = 24


def text(hosts: Sequence[HostStanding], terminal: Terminal, *, everyone: bool) -> str:
    """Return the table, the drifts, the notes and a sentence; `everyone` lists each host of a large fleet."""
    ordered = sorted(hosts, key=lambda host: host.status == GOOD)
    short = len(hosts) > MOST_HOSTS and not everyone
    listed = [host for host in ordered if not short or host.status != GOOD]
    counted = [host for host in ordered if host not in listed] if short else []
    drifts = [*(host.problem for host in hosts if host.problem), *(drift for host in hosts for drift in host.drifts)]
    blocks = [
        _table(listed, terminal),
        list(_counted(counted, terminal)),
        fleet_words.told(drifts, "", terminal),
        fleet_words.told([note for host in listed for note in host.notes], "note: ", terminal),
        terminal.paragraph(sentence(hosts)),
    ]
    return "\n\n".join("\n".join(block) for block in blocks if block)


def sentence(hosts: Sequence[HostStanding]) -> str:
    """Say in a sentence how the fleet stands."""
    if not hosts:
        return "No host was asked."
    states = Counter(host.status for host in hosts)
    counts = ", ".join(f"{states[state]} {state}" for state in STATUSES if state in states)
    planned = [each for host in hosts for each in host.instances if each.planned is not None]
    asked = [each for each in planned if each.seen.gate is not None]
    tokens = f" {sum(each.gate == 'passed' for each in asked)} of {len(planned)} instances answered five tokens."
    return f"{len(hosts)} host{'' if len(hosts) == 1 else 's'}: {counts}.{tokens if asked else ''}"


def _table(hosts: Sequence[HostStanding], terminal: Terminal) -> list[str]:
    rows = [row for host in hosts for row in _rows(host, terminal)]
    return fleet_words.table(rows, COLUMNS, terminal, numbers=NUMBERS, shareable=SHAREABLE, spare=SPARE, wraps="model")


def _rows(host: HostStanding, terminal: Terminal) -> Iterator[Row]:
    """Yield one row per instance; the first tells of the host, too."""
    cells: dict[str, str | Text] = {
        "host": host.name,
        "status": terminal.styled(host.status, STYLES.get(host.status, BAD)),
    }
    if host.seen is not None:
        cells["driver"] = host.seen.driver.loaded or ("" if host.router else "none")
        cells["disk free"] = f"{host.seen.resources.disk_free_mib >> 10:,} GiB"
    if host.seen is not None and host.seen.release is not None:
        release = host.seen.release
        cells |= {"release": release.id, "vLLM": release.engine_version, "model": release.served_name}
        cells["since"] = span(host.seen.now - release.since)
    for each in host.instances:
        if each.state is not State.STRAY or each.drifts:
            yield cells | _instance(each, terminal)
            cells = {}
    if cells:
        yield cells


def _instance(each: Standing, terminal: Terminal) -> dict[str, str | Text]:
    seen = each.seen
    return {
        "instance": f"{seen.name}:{each.planned.port}" if each.planned else seen.name,
        "state": terminal.styled(each.state, STYLES.get(each.state, BAD)),
        "up": span(seen.up_s) if seen.up_s is not None else "",
        "restarts": str(seen.unit.restarts or ""),
        "KV tokens": f"{seen.kv_tokens:,}" if seen.kv_tokens else "",
    }


def _counted(hosts: Sequence[HostStanding], terminal: Terminal) -> Iterator[str]:
    """Yield how many hosts are well with which release, as they are not listed."""
    found = Counter(_served(host) for host in hosts)
    for served, count in found.most_common():
        yield terminal.say(f"{count} host{'' if count == 1 else 's'} good with {served} (--all lists them)")


def _served(host: HostStanding) -> str:
    release = host.seen.release if host.seen else None
    return f"release {release.id}: vLLM {release.engine_version}, {release.served_name}" if release else "nothing"
