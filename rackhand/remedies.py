"""What to do next about a driver, in words that several commands say alike. Pure."""

from rackhand.catalog.drivers import Manager
from rackhand.catalog.health import health_book

INSTALL: dict[Manager, str] = {"apt": "apt-get install", "dnf": "dnf install"}


def nvml(state: str) -> str:
    """Return the next step where NVML does not work, by the state that it says it is in."""
    return health_book().finding(f"nvml-{state}").advice


def module(kernel: str, manager: Manager, ready_built: str = "", headers: str = "") -> str:
    """Return the command that brings a kernel the driver's module: its package, or dkms after headers that it lacks."""
    package = ready_built or headers
    steps = [f"{INSTALL[manager]} {package}"] if package else []
    return " && ".join(steps if ready_built else [*steps, f"dkms autoinstall -k {kernel}"])
