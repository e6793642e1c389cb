"""The hosts of a run as one table for a terminal, or as lines where it is too narrow. Pure."""

from collections.abc import Iterator, Sequence
from io import StringIO

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rackhand.outcome import HostOutcome, HostStatus, InstanceOutcome
from rackhand.terminal import clean

COLUMNS = ("host", "GPUs", "driver", "vLLM", "model", "instances", "gate", "seconds", "status")
# Only where a host had a turn: the release that serves now, and for how long no server of the host was in service.
TURNED = ("release", "out s")
NUMBERS = ("seconds", "out s")
SHAREABLE = ("driver", "vLLM", "model", "release")
_GATE_STYLES = {"passed": "green", "failed": "bold red"}


def overview(hosts: Sequence[HostOutcome], width: int, colour: bool) -> list[str]:
    """Draw the hosts as one table; where it does not fit, say first what is the same everywhere, then use lines."""
    columns = _columns(hosts)
    if (full := _draw(hosts, columns, colour)) and _fits(full, width):
        return full
    shared = {name: values[0] for name in SHAREABLE if name in columns and len(values := _values(hosts, name)) == 1}
    short = _draw(hosts, [name for name in columns if name not in shared], colour)
    if shared and _fits(short, width):
        return [" · ".join(f"{name} {value}" for name, value in shared.items()), "", *short]
    return [line for host in hosts for line in _card(host)]


def _columns(hosts: Sequence[HostOutcome]) -> list[str]:
    if not any(host.turn for host in hosts):
        return list(COLUMNS)
    place = COLUMNS.index("seconds")
    return [*COLUMNS[:place], *TURNED, *COLUMNS[place:]]


def _fits(lines: Sequence[str], width: int) -> bool:
    return all(cell_len(clean(line)) <= width for line in lines)


def _draw(hosts: Sequence[HostOutcome], columns: Sequence[str], colour: bool) -> list[str]:
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), show_edge=False)
    for name in columns:
        grid.add_column(name, no_wrap=True, justify="right" if name in NUMBERS else "left")
    for host in hosts:
        for row in _rows(host):
            grid.add_row(*(row.get(name, Text("")) for name in columns))
    console = Console(
        file=StringIO(),
        width=10_000,
        force_terminal=colour,
        color_system="standard" if colour else None,
        highlight=False,
    )
    with console.capture() as capture:
        console.print(grid)
    return [line.rstrip() for line in capture.get().splitlines()]


def _rows(host: HostOutcome) -> Iterator[dict[str, Text]]:
    """Yield one row per instance, so that each gate stands beside its instance; the first row tells of the host."""
    cells = {name: Text(text) for name, text in _facts(host).items()}
    cells |= {"seconds": Text(f"{host.seconds:.1f}"), "status": Text(host.status, style=_style(host.status))}
    for instance in host.instances:
        gate = Text(instance.gate, style=_GATE_STYLES.get(instance.gate, ""))
        yield cells | {"instances": Text(_name(instance)), "gate": gate}
        cells = {}
    if cells:
        yield cells


def _card(host: HostOutcome) -> list[str]:
    facts = [f"  {name:<9}  {text}" for name, text in _facts(host).items() if text and name != "host"]
    gates = [f"  {_name(instance)}  {instance.gate}" for instance in host.instances]
    return [f"{clean(host.name)}: {host.status}, {host.seconds:.1f} s", *facts, *gates]


def _facts(host: HostOutcome) -> dict[str, str]:
    gpus = host.gpus.replace("NVIDIA ", "").replace("GeForce ", "")
    found = {"host": host.name, "GPUs": gpus, "driver": host.driver, "vLLM": host.vllm, "model": host.model}
    if host.turn:
        out_s = host.turn.out_s
        found |= {"release": host.release, "out s": "" if out_s is None else f"{out_s:.1f}"}
    return {name: clean(text) for name, text in found.items()}


def _values(hosts: Sequence[HostOutcome], column: str) -> list[str]:
    return list(dict.fromkeys(text for host in hosts if (text := _facts(host)[column])))


def _name(instance: InstanceOutcome) -> str:
    return clean(f"{instance.name}:{instance.port}")


def _style(status: HostStatus) -> str:
    if status is HostStatus.NOT_RUN:
        return "yellow"
    return "green" if status.good else "bold red"
