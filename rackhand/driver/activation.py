"""How the driver that is installed, or will be, becomes the one that is loaded. Pure."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from rackhand import hardware_metrics
from rackhand.catalog import platforms
from rackhand.driver.ground import Ground, Kernel
from rackhand.driver.modules import lacking
from rackhand.gpu_setup import BOOT
from rackhand.plan import DriverPlan
from rackhand.remote.dpkg import upstream
from rackhand.survey import PROPRIETARY, Survey

FABRIC = re.compile(r"nvidia-fabricmanager(-\d+)?$")


class Way(StrEnum):
    """What it takes; whatever has a GPU open is stopped for each but NOTHING."""

    NOTHING = "nothing"
    LOAD = "load"
    RELOAD = "reload"
    REBOOT = "reboot"


@dataclass(frozen=True, kw_only=True)
class Activation:
    """The way that a host goes; `why` says why it cannot do with less, where that is worth saying."""

    way: Way
    why: str = ""

    @property
    def words(self) -> str:
        names = {Way.LOAD: "load it", Way.RELOAD: "reload its modules", Way.REBOOT: "reboot", Way.NOTHING: ""}
        return f"{names[self.way]} ({self.why})" if self.why else names[self.way]


def decide(survey: Survey, plan: DriverPlan, installs: bool) -> Activation:
    """Say what it takes until a version is loaded; `installs` where its packages are still to be put on."""
    driver = survey.driver
    there = driver.loaded == plan.version and driver.flavour != PROPRIETARY if installs else driver.open_ready
    if there:
        return Activation(way=Way.NOTHING)
    if why := next(_obstacles(survey, plan, installs), ""):
        return Activation(way=Way.REBOOT, why=why)
    return Activation(way=Way.RELOAD if driver.loaded else Way.LOAD)


def services() -> tuple[str, ...]:
    """Return all units that use GPUs beside servers, in the order in which they stop: who measures comes first."""
    return (*hardware_metrics.MEASURING, BOOT, *reversed(platforms.all_services()))


def stopped(survey: Survey) -> tuple[str, ...]:
    """Return those of them that use GPUs here, in the same order; nothing does without a driver."""
    running = {name for name, unit in survey.setup.services.items() if unit.active and survey.driver.loaded}
    return tuple(name for name in services() if name in running and name != BOOT)


def apart(survey: Survey, version: str) -> str:
    """Say what of a driver that should be loaded is not of its version, or not open; empty where all is."""
    if survey.driver.flavour == PROPRIETARY:
        return "the proprietary module instead of the open one"
    found = {"module": survey.driver.loaded, "library": survey.driver.library}
    fabric = next((version for name, version in survey.packages.installed.items() if FABRIC.match(name)), None)
    if fabric is not None:
        found["fabric manager"] = upstream(fabric)
    wrong = [f"{name} {seen or 'missing'}" for name, seen in found.items() if seen != version]
    return f"{', '.join(wrong)} instead of {version}" if wrong else ""


def _obstacles(survey: Survey, plan: DriverPlan, installs: bool) -> Iterator[str]:
    """Yield what only a boot resolves."""
    driver, ground = survey.driver, survey.ground
    if driver.nouveau:
        yield "nouveau has the GPUs"
    if (kernel := _running(ground)) and not _has_module(kernel, plan, ground, installs):
        yield f"no module for {kernel.release}, which runs"
    if driver.loaded and driver.flavour == PROPRIETARY:
        yield "the proprietary module is loaded"
    if driver.loaded and not ground.unloadable:
        yield "this kernel lets no module go"


def _running(ground: Ground) -> Kernel | None:
    return next((kernel for kernel in ground.kernels if kernel.running), None)


def _has_module(kernel: Kernel, plan: DriverPlan, ground: Ground, installs: bool) -> bool:
    """Say whether a kernel has the module, or will once the packages are put on."""
    if not installs:
        return kernel.module == plan.version
    return plan.packages is None or not lacking(kernel, ground, plan.packages)
