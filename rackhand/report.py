"""The report of a run: one table and its reasons for people, one JSON file with stable fields for programs."""

import json
import os
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from io import StringIO
from pathlib import Path
from typing import Any

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rackhand.arguments import command_line
from rackhand.errors import RackhandError
from rackhand.outcome import Comparison, HostOutcome, HostStatus, InstanceOutcome, Problem, RunOutcome, StepOutcome
from rackhand.report_memory import memory_lines
from rackhand.terminal import clean
from rackhand.verdict import verdict

SCHEMA = "rackhand.report/1"
COLUMNS = ("host", "GPUs", "driver", "vLLM", "model", "instances", "gate", "seconds", "status")
SHAREABLE = ("driver", "vLLM", "model")
_GATE_STYLES = {"passed": "green", "failed": "bold red"}


def table(run: RunOutcome, width: int, colour: bool = False) -> str:
    """Return the table of a run, the reasons of every host that did not get there, and the verdict.

    The table is at most `width` columns wide; `colour` adds terminal codes, so leave it out for a file or a pipe.
    """
    blocks = [_overview(run.hosts, width, colour)] if run.hosts else []
    memory = [lines] if (lines := [*memory_lines(run.hosts), *_warning_lines(run.hosts)]) else []
    reasons = [list(_reason_lines(host)) for host in run.hosts if host.problems]
    return "\n\n".join(["\n".join(block) for block in [*blocks, *memory, *reasons, [verdict(run)]]])


def plan_text(run: RunOutcome) -> str:
    """Return the plan of every host in words, or the reasons why it has none, and the verdict."""
    blocks = [_plan_lines(host) for host in run.hosts]
    return "\n\n".join(["\n".join(block) for block in [*blocks, [verdict(run)]]])


def to_json(run: RunOutcome) -> dict[str, Any]:
    """Return the report for programs; docs/reference/report.md lists its fields."""
    return {
        "schema": SCHEMA,
        "run": run.run,
        "command": command_line(shlex.split(run.command)),
        "dry": run.dry,
        "started": run.started,
        "finished": run.finished,
        "seconds": round(run.seconds, 3),
        "good": run.good,
        "verdict": verdict(run),
        "hosts": [_host_json(host) for host in run.hosts],
    }


def write(run: RunOutcome, directory: Path) -> Path:
    """Write the report to `<run id>.json` and point `latest.json` at it, each in one step; return the file's path.

    Raises RackhandError `report` when the directory cannot be written.
    """
    path = directory / f"{run.run}.json"
    text = json.dumps(to_json(run), indent=2, ensure_ascii=False) + "\n"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        _replace(path, lambda new: _write_text(new, text))
        _replace(directory / "latest.json", lambda new: new.symlink_to(path.name))
    except OSError as error:
        what = f"the report cannot be written: {error.strerror}"
        raise RackhandError("report", what, str(path), "set report_dir to a directory that you can write") from None
    return path


def _host_json(host: HostOutcome) -> dict[str, Any]:
    return {
        "name": host.name,
        "status": str(host.status),
        "changed": host.changed,
        "gpus": host.gpus,
        "driver": host.driver,
        "vllm": host.vllm,
        "model": host.model,
        "release": host.release,
        "plan": list(host.plan),
        "instances": [_instance_json(instance) for instance in host.instances],
        "steps": [_step_json(step) for step in host.steps],
        "problems": [problem_json(problem) for problem in host.problems],
        "warnings": [problem_json(warning) for warning in host.warnings],
        "seconds": round(host.seconds, 3),
        "ssh_commands": host.ssh_commands,
    }


def _instance_json(instance: InstanceOutcome) -> dict[str, Any]:
    return {
        "name": instance.name,
        "port": instance.port,
        "gpus": list(instance.gpus),
        "gate": instance.gate,
        "version": instance.version,
        "text": instance.text,
        "ready_s": None if instance.ready_s is None else round(instance.ready_s, 3),
        "memory": None if instance.memory is None else _memory_json(instance.memory),
    }


def _memory_json(memory: Comparison) -> dict[str, Any]:
    return {**asdict(memory), "terms": [asdict(term) for term in memory.terms]}


def _step_json(step: StepOutcome) -> dict[str, Any]:
    return {"name": step.name, "changed": step.changed, "summary": step.summary, "seconds": round(step.seconds, 3)}


def problem_json(problem: Problem) -> dict[str, Any]:
    """Return a problem as the report and every other JSON of ours has it."""
    return {
        "code": problem.code,
        "what": problem.what,
        "where": problem.where,
        "next_step": problem.next_step,
        "evidence": list(problem.evidence),
    }


def _replace(path: Path, make: Callable[[Path], object]) -> None:
    """Make a file under a name of its own and rename it, so that no reader ever sees half of it."""
    new = path.with_name(f".{path.name}.{os.getpid()}")
    new.unlink(missing_ok=True)
    try:
        make(new)
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)


def _write_text(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o644)


def _overview(hosts: Sequence[HostOutcome], width: int, colour: bool) -> list[str]:
    """Draw the hosts as one table; where it does not fit, say first what is the same everywhere, then use lines."""
    if (full := _draw(hosts, COLUMNS, colour)) and _fits(full, width):
        return full
    shared = {name: values[0] for name in SHAREABLE if len(values := _values(hosts, name)) == 1}
    short = _draw(hosts, [name for name in COLUMNS if name not in shared], colour)
    if shared and _fits(short, width):
        return [" · ".join(f"{name} {value}" for name, value in shared.items()), "", *short]
    return [line for host in hosts for line in _card(host)]


def _fits(lines: Sequence[str], width: int) -> bool:
    return all(cell_len(clean(line)) <= width for line in lines)


def _draw(hosts: Sequence[HostOutcome], columns: Sequence[str], colour: bool) -> list[str]:
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), show_edge=False)
    for name in columns:
        grid.add_column(name, no_wrap=True, justify="right" if name == "seconds" else "left")
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
    return {name: clean(text) for name, text in found.items()}


def _values(hosts: Sequence[HostOutcome], column: str) -> list[str]:
    return list(dict.fromkeys(text for host in hosts if (text := _facts(host)[column])))


def _name(instance: InstanceOutcome) -> str:
    return clean(f"{instance.name}:{instance.port}")


def _style(status: HostStatus) -> str:
    if status is HostStatus.NOT_RUN:
        return "yellow"
    return "green" if status.good else "bold red"


def _warning_lines(hosts: Sequence[HostOutcome]) -> Iterator[str]:
    yield from (f"warning: {_line(host, warning)}" for host in hosts for warning in host.warnings)


def _line(host: HostOutcome, problem: Problem) -> str:
    where = problem.where if host.name in problem.where else f"{host.name}, {problem.where}"
    return clean(f"{where}: {problem.what} [{problem.code}] → {problem.next_step}")


def _reason_lines(host: HostOutcome) -> Iterator[str]:
    for problem in host.problems:
        yield _line(host, problem)
        yield from (f"  │ {clean(line)}".rstrip() for line in problem.evidence)


def _plan_lines(host: HostOutcome) -> list[str]:
    words = [f"  - {clean(words)}" for words in host.plan]
    return [f"{clean(host.name)}: {host.status}", *words, *(f"  {line}" for line in _reason_lines(host))]
