"""The GPUs beside their driver: persistence, fabric services, device nodes at boot, power limits, ECC."""

from rackhand import gpu_modes, gpu_setup, hardware_metrics, payload
from rackhand.gpu_setup import Setup
from rackhand.operations import Change
from rackhand.render import ROOT
from rackhand.run import HostRun
from rackhand.session import inner_s
from tasks import driver

TIMEOUT_S = 1800


def configured(host: HostRun) -> Change | None:
    """Have run what the driver needs beside it, nothing of that where it is not needed, and GPUs set as wished."""
    seen, settings = host.survey(), host.intent.settings
    refused = (*gpu_modes.refusals(host.name, seen, settings), *hardware_metrics.refusals(host.name, seen, settings))
    for problem in refused:
        raise host.error(problem.code, problem.what, problem.next_step)
    setup = gpu_setup.wanted(seen, settings)
    missing = gpu_setup.differences(seen, setup)
    if not missing or (not host.live and driver.install(host) is not None):
        return None  # nothing of it is there before the packages are
    return Change(summary=", ".join(missing), apply=lambda: _apply(host, setup))


def _apply(host: HostRun, setup: Setup) -> None:
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
        text = payload.gpu_modes(differing)
        host.call("gpu_setup.set_modes", kept=dict(setup.kept), payload=text, loader=payload.LOADER, root=ROOT)
    host.note("gpus", services=list(setup.services), modes=list(gpu_modes.words(differing)))
