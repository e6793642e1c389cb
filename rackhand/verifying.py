"""verify.py's side of pyinfra: ask every host while pyinfra prepares, tell of all once the last one has answered."""

import sys
from functools import cache

import click
from pyinfra.api import Host, State
from pyinfra.api.exceptions import PyinfraError
from pyinfra.context import ctx_host, ctx_state

from rackhand.commands import verify_words
from rackhand.commands.verify_seen import look
from rackhand.errors import RackhandError, unreachable
from rackhand.health.host import UNHEALTHY, HostHealth
from rackhand.outcome import Problem
from rackhand.session import Session
from rackhand.ssh import tune
from rackhand.terminal import Terminal


class UnhealthyError(PyinfraError):
    """Ends a run in which a finding blocks, or a host could not be asked."""


@cache
def _answers() -> dict[str, HostHealth]:
    """Return this process's answers; pyinfra executes verify.py once per host, in one process."""
    return {}


def verify() -> None:
    """Ask this host; the last one prints the table for all. Changes nothing, so that --dry says the same."""
    this: Host = ctx_host.get()  # type: ignore[no-untyped-call]
    tune(this)
    answers = _answers()
    try:
        answers[this.name] = look(Session(this))
    except RackhandError as error:
        answers[this.name] = HostHealth(name=this.name, problem=Problem.of(error))
    state: State = ctx_state.get()  # type: ignore[no-untyped-call]
    if {each.name for each in state.active_hosts} <= answers.keys():
        chosen = state.limit_hosts or list(state.inventory)
        _tell([answers.get(each.name, _silent(each.name)) for each in sorted(chosen, key=lambda each: each.name)])


def _silent(name: str) -> HostHealth:
    return HostHealth(name=name, problem=Problem.of(unreachable(name)))


def _tell(hosts: list[HostHealth]) -> None:
    click.echo(f"\n{verify_words.text(hosts, Terminal.of(sys.stdout), everyone=False)}\n")
    wrong = [host.name for host in hosts if host.problem or host.status == UNHEALTHY]
    if wrong:
        raise UnhealthyError(f"not fit to serve, or not to be asked: {', '.join(wrong)}")
