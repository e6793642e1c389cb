"""The packages with which vLLM compiles small kernels at run time, as each distribution names them. Pure."""

from rackhand.settings import Settings

DEBIANS = ("gcc", "libc6-dev")
RED_HATS = ("gcc", "glibc-devel")
# ID in /etc/os-release: RHEL, its rebuilds, and Fedora.
RED_HAT_IDS = ("rhel", "rocky", "almalinux", "centos", "ol", "fedora")


def packages(settings: Settings, distribution: str) -> tuple[str, ...]:
    """Return the packages that a host of a distribution needs beside the driver."""
    if settings.engine_host_packages is not None:
        return settings.engine_host_packages
    return RED_HATS if distribution in RED_HAT_IDS else DEBIANS


def asked(settings: Settings) -> tuple[str, ...]:
    """Return every package that a host of whatever distribution may need."""
    return settings.engine_host_packages or tuple(dict.fromkeys((*DEBIANS, *RED_HATS)))
