"""The GPUs beside their driver: persistence, fabric services, device nodes at boot, power limits, ECC, MIG."""

from collections.abc import Iterator, Sequence

from rackhand import gpu_modes, gpu_setup, hardware_metrics, payload
from rackhand.gpu_setup import Setup
from rackhand.operations import Change
from rackhand.outcome import Problem
from rackhand.render import ROOT
from rackhand.run import HostRun
from rackhand.session import inner_s
from tasks import activation, driver, switch

TIMEOUT_S = 1800
# Longer than the host itself waits.
MODES_S = 600


def configured(host: HostRun) -> Change | None:
    """Have run what the driver needs beside it, nothing of that where it is not needed, and GPUs set as wished.

    What a GPU becomes only at its next reset takes a reboot, in this turn where that is allowed.
    """
    seen, settings = host.survey(), host.intent.settings
    refused = (*gpu_modes.refusals(host.name, seen, settings), *hardware_metrics.refusals(host.name, seen, settings))
    for problem in refused:
        raise host.error(problem.code, problem.what, problem.next_step)
    setup = gpu_setup.wanted(seen, settings)
    missing = [*gpu_setup.differences(seen, setup), *_reboot(host, setup)]
    if not missing:
        _tell(host, gpu_modes.pending(seen, setup.modes))
    if not missing or (not host.live and driver.install(host) is not None):
        return None  # nothing of it is there before the packages are
    alone = gpu_modes.disturbing(seen, setup.modes) or any(_reboot(host, setup))
    return Change(summary=", ".join(missing), apply=lambda: _apply(host, setup), together=alone)


def _reboot(host: HostRun, setup: Setup) -> Iterator[str]:
    seen = host.survey()
    waits = gpu_modes.pending(seen, setup.modes) or gpu_modes.resetting(seen, setup.modes)
    if waits and host.intent.settings.driver_reboot_allowed:
        yield "reboot into it"


def _apply(host: HostRun, setup: Setup) -> None:
    differing = gpu_modes.differing(host.survey(), setup.modes)
    if gpu_modes.disturbing(host.survey(), setup.modes):
        switch.hold(host, driver.hold_s(host.intent.settings))
    _set(host, setup)
    host.note("gpus", services=list(setup.services), modes=list(gpu_modes.words(differing)))
    host.changed()
    waiting = gpu_modes.pending(host.survey(), setup.modes)
    if waiting and host.intent.settings.driver_reboot_allowed:
        activation.reboot(host, f"for {', '.join(waiting)}")
        _refuse(host, gpu_modes.pending(host.survey(), setup.modes))
    else:
        _tell(host, waiting)


def _set(host: HostRun, setup: Setup) -> None:
    seen = host.survey()
    differing = gpu_modes.differing(seen, setup.modes)
    with host.waiting("the services of the driver", TIMEOUT_S):
        host.call(
            "gpu_setup.configure",
            TIMEOUT_S,
            packages=list(setup.packages),
            services=list(setup.services),
            unwanted=list(gpu_setup.superfluous(seen, setup)),
            modules=list(setup.modules),
            again=list(gpu_setup.again(seen, setup)),
            timeout_s=inner_s(TIMEOUT_S),
        )
    if differing or seen.setup.kept != setup.kept:
        resting = hardware_metrics.MEASURING if gpu_modes.disturbing(seen, setup.modes) else ()
        wish = {"kept": dict(setup.kept), "payload": payload.gpu_modes(differing), "loader": payload.LOADER}
        with host.waiting("GPUs to be set", MODES_S):
            down = host.call("gpu_setup.set_modes", MODES_S, root=ROOT, resting=list(resting), **wish)
        activation.warn_of(host, down, "GPUs were set")


def _tell(host: HostRun, waiting: Sequence[str]) -> None:
    if waiting and host.live:
        what = f"{', '.join(waiting)}: set, and not so before the GPU is reset"
        step = "reboot the host in its maintenance window, or set driver_reboot_allowed = True and run again"
        problem = Problem(code="gpu-pending", what=what, where=host.name, next_step=step)
        host.warnings += [problem] if problem not in host.warnings else []


def _refuse(host: HostRun, waiting: Sequence[str]) -> None:
    """Raise RackhandError where a reboot did not help: another one would not either."""
    if waiting:
        step = "a virtual machine takes a full stop and start; else see 'dmesg | grep -i nvidia', or take the wish back"
        raise host.error("gpu-pending", f"{', '.join(waiting)}: not so after a reboot", step)
