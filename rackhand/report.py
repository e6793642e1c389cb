"""The report of a run: one table and its reasons for people, one JSON file with stable fields for programs."""

import json
import os
import re
import shlex
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rackhand.arguments import command_line
from rackhand.errors import RackhandError
from rackhand.outcome import HostOutcome, HostStatus, InstanceOutcome, Problem, RunOutcome, StepOutcome
from rackhand.verdict import verdict

SCHEMA = "rackhand.report/1"
_GATE_STYLES = {"passed": "green", "failed": "bold red"}
_ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|[\x00-\x08\x0a-\x1f\x7f-\x9f]")


def table(run: RunOutcome, width: int, colour: bool = False) -> str:
    """Return the table of a run, the reasons of every host that did not get there, and the verdict.

    The table is at most `width` columns wide; `colour` adds terminal codes, so leave it out for a file or a pipe.
    """
    blocks = [_grid(run.hosts, width, colour)] if run.hosts else []
    reasons = [_reason_lines(host) for host in run.hosts if host.problems]
    return "\n\n".join(["\n".join(block) for block in [*blocks, *reasons, [verdict(run)]]]) + "\n"


def plan_text(run: RunOutcome) -> str:
    """Return the plan of every host in words, or the reasons why it has none, and the verdict."""
    blocks = [_plan_lines(host) for host in run.hosts]
    return "\n\n".join(["\n".join(block) for block in [*blocks, [verdict(run)]]]) + "\n"


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


def _grid(hosts: tuple[HostOutcome, ...], width: int, colour: bool) -> list[str]:
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 0, 0), show_edge=False, header_style="bold")
    for name in ("host", "GPUs", "driver", "vLLM", "model", "instances"):
        grid.add_column(name, overflow="fold", no_wrap=name in ("driver", "vLLM"))
    grid.add_column("gate", no_wrap=True)
    grid.add_column("seconds", no_wrap=True, justify="right")
    grid.add_column("status", no_wrap=True)
    for host in hosts:
        for row in _rows(host):
            grid.add_row(*row)
    console = Console(
        file=StringIO(), width=width, force_terminal=colour, color_system="standard" if colour else None, highlight=False
    )
    with console.capture() as capture:
        console.print(grid)
    return [line.rstrip() for line in capture.get().splitlines()]


def _rows(host: HostOutcome) -> Iterator[list[Text]]:
    """Yield one row per instance, so that each gate stands beside its instance; the first row tells of the host."""
    instances = host.instances or (None,)
    for position, instance in enumerate(instances):
        facts = (host.name, host.gpus, host.driver, host.vllm, host.model) if position == 0 else ("",) * 5
        seconds = f"{host.seconds:.1f}" if position == 0 else ""
        status = Text(host.status, style=_style(host.status)) if position == 0 else Text("")
        yield [*map(Text, map(_clean, facts)), *_instance_cells(instance), Text(seconds), status]


def _instance_cells(instance: InstanceOutcome | None) -> tuple[Text, Text]:
    if instance is None:
        return Text(""), Text("")
    return Text(f"{instance.name}:{instance.port}"), Text(instance.gate, style=_GATE_STYLES.get(instance.gate, ""))


def _style(status: HostStatus) -> str:
    if status is HostStatus.NOT_RUN:
        return "yellow"
    return "green" if status.good else "bold red"


def _reason_lines(host: HostOutcome) -> list[str]:
    return [f"{_clean(host.name)} {host.status}", *[line for problem in host.problems for line in _problem(problem)]]


def _problem(problem: Problem) -> Iterator[str]:
    sentence = f"{problem.where}: {problem.what} [{problem.code}] → {problem.next_step}"
    yield f"  {_clean(sentence)}"
    for line in problem.evidence:
        yield f"    │ {_clean(line)}".rstrip()


def _plan_lines(host: HostOutcome) -> list[str]:
    heading = f"{_clean(host.name)} {host.status}"
    if host.problems:
        return _reason_lines(host)
    return [heading, *(f"  - {_clean(words)}" for words in host.plan or ("nothing to do",))]


def _clean(text: str) -> str:
    """Take out what would move the cursor or colour the terminal: evidence comes from other programs."""
    return _ESCAPES.sub("", text.replace("\n", " "))
