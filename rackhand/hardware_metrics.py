"""Who measures the GPUs of a host for Prometheus: our own page for a node exporter, or NVIDIA's DCGM. Pure."""

from collections.abc import Iterator
from typing import Literal

from rackhand.outcome import Problem
from rackhand.settings import Settings
from rackhand.survey import Survey

# Writes our page.
PAGE = "rackhand-hardware"
DCGM = "nvidia-dcgm"
# Names under which operators run dcgm-exporter, which no distribution packages.
EXPORTERS = ("dcgm-exporter", "nvidia-dcgm-exporter")
WATCHED = (PAGE, DCGM, *EXPORTERS)
# In the order in which they stop where GPUs must be left alone.
MEASURING = tuple(reversed(WATCHED))
# Shell pattern of DCGM's packages.
PACKAGES = "datacenter-gpu-manager-4-*"
# Distributions on which rackhand installs them.
MANAGERS = ("debian", "ubuntu")


def way(survey: Survey, settings: Settings) -> Literal["textfile", "dcgm", "off"]:
    """Say who measures; "auto" is our page unless an exporter of DCGM's runs already, which has more to tell."""
    if settings.metrics_hardware != "auto":
        return settings.metrics_hardware
    exported = any((unit := survey.setup.services.get(name)) and unit.wanted for name in EXPORTERS)
    return "off" if exported else "textfile"


def services(survey: Survey, settings: Settings) -> tuple[str, ...]:
    """Return the units that are to run for it."""
    return {"textfile": (PAGE,), "dcgm": (DCGM,), "off": ()}[way(survey, settings)]


def packages(survey: Survey, settings: Settings) -> tuple[str, ...]:
    """Return DCGM's packages, which go by the CUDA of the driver, where they are wished and not there."""
    if way(survey, settings) != "dcgm" or survey.nvml.state != "ok":
        return ()
    wanted = ("datacenter-gpu-manager-4-core", f"datacenter-gpu-manager-4-cuda{survey.nvml.cuda.partition('.')[0]}")
    return tuple(name for name in wanted if name not in survey.packages.installed)


def refusals(host: str, survey: Survey, settings: Settings) -> Iterator[Problem]:
    """Yield why DCGM cannot be had where it is wished."""
    there = (unit := survey.setup.services.get(DCGM)) is not None and unit.there
    if settings.metrics_hardware != "dcgm" or there:
        return
    if not settings.driver_manage or survey.host.distribution not in MANAGERS:
        what = 'metrics_hardware is "dcgm"; rackhand installs it on Debian and Ubuntu, where it manages the driver'
        step = 'install datacenter-gpu-manager-4 on the host yourself, or set metrics_hardware = "textfile"'
        yield Problem(code="metrics-dcgm", what=what, where=host, next_step=step)
