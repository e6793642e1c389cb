"""Which packages a kernel lacks for having a module of the driver. Pure."""

from rackhand.catalog import DriverSet
from rackhand.driver.ground import Ground, Kernel
from rackhand.survey import Survey


def ready_built(ground: Ground, packages: DriverSet) -> dict[str, Kernel]:
    """Return the distribution's modules that are on offer for the kernels that are here, by package."""
    known = {
        name: kernel for kernel in ground.kernels if kernel.package for name in packages.ready_built(kernel.release)
    }
    return {name: kernel for name, kernel in known.items() if name in ground.modules_offered}


def missing(survey: Survey, packages: DriverSet) -> tuple[str, ...]:
    """Name what belongs to the driver and is not here: beside its set, and a kernel's module where none is loaded.

    Nothing stops for the next kernel of a host that works: that one is warned of.
    """
    modules = () if survey.driver.ready else ready_built(survey.ground, packages)
    wanted = dict.fromkeys((*packages.lacks(survey.ground.packages), *modules))
    return tuple(name for name in wanted if name not in survey.ground.packages)


def needed(ground: Ground, packages: DriverSet, version: str) -> tuple[str, ...]:
    """Name what a stored set must have to be a host's driver: all its own, and modules that a kernel has not yet."""
    modules = ready_built(ground, packages).items()
    return (*packages.own, *(name for name, kernel in modules if kernel.module != version))


def lacking(kernel: Kernel, ground: Ground, packages: DriverSet) -> tuple[str, ...]:
    """Name what is neither installed nor on offer and keeps a kernel from having a module; empty where nothing does."""
    if packages.module == "precompiled":
        missing = {*packages.ready_built(kernel.release)} - {*ground.modules_offered, *ground.packages}
        return tuple(sorted(missing)) if ground.listed else ()
    name = packages.headers(kernel.release)
    hopeless = name not in ground.headers_offered and ground.listed if kernel.package else kernel.image
    return (name,) if hopeless and not kernel.headers else ()
