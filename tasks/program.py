"""The host's own program: it carries out switches, puts back what worked, and tells routers who is ready."""

from rackhand.operations import Change
from rackhand.program import program
from rackhand.render import ROOT
from rackhand.run import HostRun

TIMEOUT_S = 180


def install(host: HostRun) -> Change | None:
    """Install the program and its units unless the host has exactly these."""
    settings, there = host.intent.settings, host.survey().state.program
    wanted = program(ROOT, settings.router_state_port, settings.metrics_directory)
    if there.digest == wanted.digest and wanted.unit_digests.items() <= there.units.items():
        return None

    def apply() -> None:
        arguments = {"digest": wanted.digest, "data": wanted.text, "units": dict(wanted.units)}
        host.call("program.install", TIMEOUT_S, root=ROOT, **arguments)
        host.note("program", digest=wanted.digest)

    return Change(summary=f"install the host's own program {wanted.digest} and its units", apply=apply)
