"""Which packages a kernel lacks for having a module of the driver. Pure."""

from rackhand.catalog import DriverSet
from rackhand.driver.ground import Ground, Kernel


def lacking(kernel: Kernel, ground: Ground, packages: DriverSet) -> tuple[str, ...]:
    """Name what is neither installed nor on offer and keeps a kernel from having a module; empty where nothing does."""
    if packages.module == "precompiled":
        missing = {*packages.ready_built(kernel.release)} - {*ground.modules_offered, *ground.packages}
        return tuple(sorted(missing)) if ground.listed else ()
    name = packages.headers(kernel.release)
    hopeless = name not in ground.headers_offered and ground.listed if kernel.package else kernel.image
    return (name,) if hopeless and not kernel.headers else ()
