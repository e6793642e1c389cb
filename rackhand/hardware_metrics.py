"""Who measures the GPUs of a host for Prometheus: our own page for a node exporter, or NVIDIA's DCGM. Pure."""

from collections.abc import Iterator
from typing import Literal

from rackhand.gpu_facts import ServiceFacts
from rackhand.outcome import Problem
from rackhand.settings import Settings
from rackhand.survey import Survey

# Writes our page.
PAGE = "rackhand-hardware"
DCGM = "nvidia-dcgm"
# As NVIDIA's package calls its exporter, and as operators do who run it from an image or their own build.
EXPORTER = "nvidia-dcgm-exporter"
FOREIGN = "dcgm-exporter"
WATCHED = (PAGE, DCGM, FOREIGN, EXPORTER)
# In the order in which they stop where GPUs must be left alone.
MEASURING = tuple(reversed(WATCHED))
# Shell pattern of DCGM's packages.
PACKAGES = "datacenter-gpu-manager-*"
# Distributions on which rackhand installs them.
MANAGERS = ("debian", "ubuntu")


def way(survey: Survey, settings: Settings) -> Literal["textfile", "dcgm", "off"]:
    """Say who measures; "auto" is NVIDIA's exporter where it is on the host, else our page unless another runs."""
    if settings.metrics_hardware != "auto":
        return settings.metrics_hardware
    if settings.driver_manage and _unit(survey, EXPORTER).there:
        return "dcgm"
    return "off" if any(_unit(survey, name).wanted for name in (EXPORTER, FOREIGN)) else "textfile"


def services(survey: Survey, settings: Settings) -> tuple[str, ...]:
    """Return the units that are to run for it."""
    return {"textfile": (PAGE,), "dcgm": (DCGM, EXPORTER), "off": ()}[way(survey, settings)]


def packages(survey: Survey, settings: Settings) -> tuple[str, ...]:
    """Return DCGM's packages, which go by the CUDA of the driver, where they are wished and not there."""
    if settings.metrics_hardware != "dcgm" or survey.nvml.state != "ok":
        return ()
    cuda = survey.nvml.cuda.partition(".")[0]
    family = "datacenter-gpu-manager"
    wanted = (f"{family}-4-core", f"{family}-4-cuda{cuda}", f"{family}-exporter")
    return tuple(name for name in wanted if name not in survey.packages.installed)


def refusals(host: str, survey: Survey, settings: Settings) -> Iterator[Problem]:
    """Yield why DCGM's exporter cannot be had where it is wished."""
    if settings.metrics_hardware != "dcgm" or _unit(survey, EXPORTER).there:
        return
    ours = settings.driver_manage and settings.driver_source == "nvidia"
    if not ours or survey.host.distribution not in MANAGERS:
        what = 'metrics_hardware is "dcgm"; rackhand installs it on Debian and Ubuntu beside NVIDIA\'s driver'
        step = 'install datacenter-gpu-manager-exporter on the host yourself, or set metrics_hardware = "textfile"'
        yield Problem(code="metrics-dcgm", what=what, where=host, next_step=step)


def _unit(survey: Survey, name: str) -> ServiceFacts:
    return survey.setup.services.get(name, ServiceFacts())
