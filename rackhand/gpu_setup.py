"""How a host's GPUs are to be set up beside the driver: what runs, what boots load and set. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from rackhand import gpu_modes, hardware_metrics
from rackhand.catalog import platforms
from rackhand.gpu_facts import NvmlGpu
from rackhand.gpu_modes import Modes
from rackhand.seen import inventory
from rackhand.settings import Settings
from rackhand.survey import Survey

PERSISTENCED = "nvidia-persistenced"
# Makes the device nodes and sets GPUs at boot, before any server starts.
BOOT = "rackhand-gpus"


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What is to be so beside the driver.

    `packages` are to be installed, `services` are to run and `unwanted` are not (units without their ending), boots
    load `modules` in order and set `kept`; `modes` is what GPUs are to be set to now, by PCI address.
    """

    packages: tuple[str, ...] = ()
    services: tuple[str, ...] = ()
    unwanted: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    kept: Modes = field(default_factory=dict)
    modes: Modes = field(default_factory=dict)


def watched() -> tuple[str, ...]:
    """Return every unit that a setup may be about."""
    return (*platforms.all_services(), BOOT, *hardware_metrics.WATCHED)


def wanted(survey: Survey, settings: Settings) -> Setup:
    """Say what the host needs; where the driver is not managed, services and modules are left alone as well."""
    kept, platform = gpu_modes.kept(survey, settings), inventory(survey).platform
    if settings.driver_manage:
        ours, needed = [*platforms.all_services(), hardware_metrics.PAGE], [*platforms.services(platform), BOOT]
    else:
        ours, needed = [hardware_metrics.PAGE], [BOOT] if kept else []
    needed += hardware_metrics.services(survey, settings)
    return Setup(
        packages=hardware_metrics.packages(survey, settings),
        services=tuple(needed),
        unwanted=tuple(name for name in ours if name not in needed),
        modules=platforms.modules(platform) if settings.driver_manage else (),
        kept=kept,
        modes=gpu_modes.wished(survey, settings),
    )


def differences(survey: Survey, setup: Setup) -> tuple[str, ...]:
    """Say what of a setup is not so, in words; nothing where all is."""
    return (
        *(f"package {name}" for name in setup.packages),
        *_services(survey, setup),
        *gpu_modes.words(gpu_modes.differing(survey, setup.modes)),
        *_boots(survey, setup),
    )


def again(survey: Survey, setup: Setup) -> tuple[str, ...]:
    """Return the services that run and do not do what they are for."""
    return (PERSISTENCED,) if PERSISTENCED in setup.services and any(map(_forgets, survey.nvml.gpus)) else ()


def superfluous(survey: Survey, setup: Setup) -> tuple[str, ...]:
    """Return the units that run, or would after a boot, on GPUs that do not need them."""
    return tuple(name for name in setup.unwanted if (unit := survey.setup.services.get(name)) and unit.wanted)


def _services(survey: Survey, setup: Setup) -> Iterator[str]:
    seen = survey.setup
    for name in setup.services:
        unit = seen.services.get(name)
        if name == PERSISTENCED and not (seen.persistence and not any(map(_forgets, survey.nvml.gpus))):
            yield "persistence mode on"
        elif unit is None or not (unit.enabled and unit.active):
            yield f"{name} on"
    yield from (f"{name} off" for name in superfluous(survey, setup))


def _forgets(gpu: NvmlGpu) -> bool:
    return gpu.persistence is False


def _boots(survey: Survey, setup: Setup) -> Iterator[str]:
    if setup.modules and survey.setup.modules != setup.modules:
        yield f"{', '.join(setup.modules)} at boot"
    if survey.nvml.state == "ok" and survey.setup.kept != setup.kept:
        yield "what boots set of the GPUs"
