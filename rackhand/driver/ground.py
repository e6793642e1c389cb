"""What a driver would be put onto, as frozen and validated data (the answer of rackhand.remote.driver_facts)."""

from pydantic import Field

from rackhand.frozen import Frozen


class Kernel(Frozen):
    """The running kernel or the one that boots next, which may be the same.

    `package` says that a package brought it, `image` that it lies under /boot; `meta` names the package that follows
    this kind of kernel, `headers` says that a module can be built for it; `module` is the version of the nvidia module
    that it would load, `signer` whose it is.
    """

    release: str
    running: bool
    next: bool
    package: bool = False
    image: bool = False
    meta: str = ""
    headers: bool = False
    module: str = ""
    signer: str = ""


class Place(Frozen):
    """Free space below a path, in MiB; places with the same `device` share it."""

    path: str
    device: int
    free_mib: int


class AptSource(Frozen):
    """One repository that a file of somebody else's names; `key` is empty where apt's own keys are meant."""

    file: str
    uri: str
    suite: str
    key: str


class AptPin(Frozen):
    """One pin that a file of somebody else's sets."""

    file: str
    packages: str
    pin: str
    priority: int


class Ground(Frozen):
    """Packages of a driver, kernels, space, keys and apt's files.

    `packages` are all that NVIDIA's driver brings, whoever packaged it; `modules_offered` are packages that the
    distribution built for one of the `kernels`, `ours` rackhand's own files for the package manager. `key_enrolled` is
    None where Secure Boot is off or nobody can tell.
    """

    packages: dict[str, str] = Field(default_factory=dict)
    kernels: tuple[Kernel, ...] = ()
    listed: bool = False
    headers_offered: tuple[str, ...] = ()
    modules_offered: tuple[str, ...] = ()
    unloadable: bool = False
    ours: tuple[str, ...] = ()
    places: tuple[Place, ...] = ()
    key_enrolled: bool | None = None
    sources: tuple[AptSource, ...] = ()
    preferences: tuple[AptPin, ...] = ()

    @property
    def coming(self) -> Kernel | None:
        """The kernel that the next boot takes."""
        return next((kernel for kernel in self.kernels if kernel.next), None)
