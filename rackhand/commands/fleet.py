"""The plans of a fleet: a table of all hosts, then each plan or refusal once, with the hosts that share it."""

from collections.abc import Sequence
from typing import Any

from rich.text import Text

from rackhand.commands.answer import facts
from rackhand.commands.planning import HostVerdict
from rackhand.commands.words import reason_block, words
from rackhand.report_json import problem_json
from rackhand.terminal import Terminal

SCHEMA = "rackhand.plan/1"
COLUMNS = ("host", "status", "instances", "KV tokens", "driver", "vLLM", "model", "GPUs")
NUMBERS = ("instances", "KV tokens")
STYLES = {"planned": "green", "refused": "bold red", "unreachable": "bold red", "failed": "bold red"}
MOST_NAMES = 8


def text(hosts: Sequence[HostVerdict], terminal: Terminal) -> str:
    """Return the table of all hosts, what stands behind each row, and a sentence."""
    rows = [_row(host, terminal) for host in hosts]
    blocks = ["\n".join(terminal.table(COLUMNS, rows, NUMBERS, ("status", "driver", "vLLM")))] if rows else []
    alike: dict[str, list[str]] = {}
    for host in hosts:
        alike.setdefault(_behind(host, terminal), []).append(host.name)
    for said, names in alike.items():
        rest = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
        title = terminal.say(f"── {', '.join(names[:MOST_NAMES])}{rest} ")
        blocks.append(f"{title.ljust(terminal.width, title[0])}\n\n{said}")
    return "\n\n".join([*blocks, _sentence(hosts)])


def to_json(hosts: Sequence[HostVerdict]) -> dict[str, Any]:
    """Return the plans for programs; docs/reference/fit.md lists the fields."""
    return {
        "schema": SCHEMA,
        "fits": bool(hosts) and all(host.status == "planned" for host in hosts),
        "verdict": _sentence(hosts),
        "hosts": [_host(host) for host in hosts],
    }


def _host(host: HostVerdict) -> dict[str, Any]:
    return {
        "name": host.name,
        "status": host.status,
        "driver": host.driver,
        "problems": [problem_json(host.problem)] if host.problem else [],
        "plan": facts(host.answer) if host.answer else None,
    }


def _row(host: HostVerdict, terminal: Terminal) -> list[str | Text]:
    status, answer = terminal.styled(host.status, STYLES[host.status]), host.answer
    if answer is None:
        return [host.name, status, "", "", "", "", "", ""]
    tokens = sum(instance.forecast.kv_tokens for instance in answer.instances if instance.forecast)
    counts = [str(len(answer.instances)), f"{tokens:,}"] if answer.instances else ["", ""]
    return [host.name, status, *counts, host.driver, answer.version, answer.model, answer.cards]


def _behind(host: HostVerdict, terminal: Terminal) -> str:
    if host.answer is not None:
        return words(host.answer, terminal, typed=False)
    if host.problem is None:
        return ""
    return "\n".join(reason_block(host.problem, terminal))


def _sentence(hosts: Sequence[HostVerdict]) -> str:
    if not hosts:
        return "No host was asked."
    states = [host.status for host in hosts]
    counts = [f"{states.count(state)} {state}" for state in STYLES if state in states]
    return f"{len(hosts)} host{'' if len(hosts) == 1 else 's'}: {', '.join(counts)}."
