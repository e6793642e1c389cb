"""The health of a fleet's GPUs in words: what all share, a table, every finding once with all that it is about."""

from collections import Counter
from collections.abc import Iterator, Sequence

from rich.text import Text

from rackhand.commands import fleet_words
from rackhand.commands.fleet_words import Row
from rackhand.hardware import Inventory
from rackhand.health.host import DEGRADED, HEALTHY, NONE, STATUSES, UNHEALTHY, HostHealth
from rackhand.health.judge import inventory
from rackhand.health.links import COMPLETED, SWITCHED
from rackhand.health.policy import WORST_FIRST
from rackhand.health.seen import GpuSeen, Seen
from rackhand.health.telling import before, placed
from rackhand.outcome import Finding, Severity
from rackhand.terminal import Terminal

COLUMNS = (
    "host", "status", "GPUs", "driver", "CUDA", "NVLinks", "fabric", "hottest", "power limit", "Xids", "findings",
)  # fmt: skip
NUMBERS = ("CUDA", "hottest", "power limit", "Xids")
SHAREABLE = ("GPUs", "driver")
SPARE = ("power limit", "hottest", "NVLinks", "Xids", "driver", "fabric")
STYLES = {HEALTHY: "green", DEGRADED: "yellow", NONE: ""}
TONES = {Severity.INFO: "", Severity.WARNING: "yellow"}
BAD = "bold red"
# More hosts than this, and those that are healthy are counted.
MOST_HOSTS = 24


def text(hosts: Sequence[HostHealth], terminal: Terminal, *, everyone: bool) -> str:
    """Return the table, the findings and a sentence; `everyone` lists each host of a large fleet."""
    ordered = sorted(hosts, key=lambda host: -STATUSES.index(host.status))
    short = len(hosts) > MOST_HOSTS and not everyone
    listed = [host for host in ordered if not short or host.status not in (HEALTHY, NONE)]
    rest = len(ordered) - len(listed)
    blocks = [
        fleet_words.table(
            [_row(host, terminal) for host in listed],
            COLUMNS,
            terminal,
            numbers=NUMBERS,
            shareable=SHAREABLE,
            spare=SPARE,
            wraps="findings",
        ),
        [terminal.say(f"{rest} host{'' if rest == 1 else 's'} healthy (--all lists them)")] if rest else [],
        fleet_words.told([host.problem for host in hosts if host.problem], "", terminal),
        [line for group in _groups(hosts) for line in fleet_words.told(placed(group), before(group[0]), terminal)],
        terminal.paragraph(sentence(hosts)),
    ]
    return "\n\n".join("\n".join(block) for block in blocks if block)


def sentence(hosts: Sequence[HostHealth]) -> str:
    """Say in a sentence how the fleet is."""
    if not hosts:
        return "No host was asked."
    states = Counter(host.status for host in hosts)
    counts = ", ".join(f"{states[state]} {state}" for state in STATUSES if state in states)
    blocked = sum(host.status == UNHEALTHY for host in hosts)
    serving = f" Nothing may begin to serve on {blocked} of them." if blocked else ""
    return f"{len(hosts)} host{'' if len(hosts) == 1 else 's'}: {counts}.{serving}"


def _row(host: HostHealth, terminal: Terminal) -> Row:
    cells: dict[str, str | Text] = {
        "host": host.name,
        "status": terminal.styled(host.status, STYLES.get(host.status, BAD)),
        "findings": _counted(host.findings, terminal),
    }
    if host.seen is not None and not host.bare:
        cells |= _facts(host.seen, inventory(host.seen))
        cells["Xids"] = str(sum(each.code.startswith("xid-") for each in host.findings) or "")
    return cells


def _facts(seen: Seen, bus: Inventory) -> dict[str, str]:
    gpus = seen.well
    hottest = max((gpu.temperature_c for gpu in gpus if gpu.temperature_c is not None), default=None)
    limits = {gpu.power_limit_w for gpu in gpus if gpu.power_limit_w is not None}
    joined = sum(gpu.fabric is not None and gpu.fabric.state == COMPLETED for gpu in gpus)
    return {
        "GPUs": bus.describe(),
        "driver": seen.driver.loaded or "none",
        "CUDA": _cuda(seen) if bus.gpus else "",
        "NVLinks": _links(gpus),
        "fabric": f"{joined} of {len(bus.gpus)}" if bus.platform in SWITCHED else "",
        "hottest": "" if hottest is None else f"{hottest} °C",
        "power limit": f"{min(limits)} W" if limits else "",
    }


def _cuda(seen: Seen) -> str:
    """Return the devices that CUDA shows, or why it shows none."""
    return str(seen.cuda.devices if seen.cuda.state == "ok" else seen.cuda.code or seen.cuda.state)


def _links(gpus: Sequence[GpuSeen]) -> str:
    """Say how many links of a card are up; of cards that differ, the fewest and the most."""
    counts = sorted({sum(gpu.nvlinks) for gpu in gpus if gpu.nvlinks is not None})
    return "-".join(str(count) for count in dict.fromkeys((counts[0], counts[-1]))) if counts else ""


def _counted(findings: Sequence[Finding], terminal: Terminal) -> Text:
    counts = Counter(each.severity for each in findings)
    words = ", ".join(_plural(counts[each], each) for each in WORST_FIRST if counts[each])
    worst = next((each for each in WORST_FIRST if counts[each]), Severity.INFO)
    return terminal.styled(words, TONES.get(worst, BAD))


def _plural(count: int, severity: Severity) -> str:
    counted = severity in (Severity.WARNING, Severity.ERROR)
    return f"{count} {severity}{'s' if counted and count > 1 else ''}"


def _groups(hosts: Sequence[HostHealth]) -> Iterator[list[Finding]]:
    """Yield the findings that begin alike: what blocks first, then the worst."""
    findings = [each for host in hosts for each in host.findings]
    for blocks in (True, False):
        for severity in WORST_FIRST:
            group = [each for each in findings if each.severity is severity and each.blocks is blocks]
            if group:
                yield group
