"""What a host said about how it stands, as frozen and validated data (the answer of rackhand.remote.status)."""

from typing import Annotated, Any

from pydantic import BeforeValidator

from rackhand.frozen import Frozen, validated
from rackhand.gpu_facts import Nvml
from rackhand.lease import Lease, OpenOrder
from rackhand.outcome import DriverBack
from rackhand.shelf import Shelved
from rackhand.survey import DriverFacts, Resources


class HostSeen(Frozen):
    """The operating system; `uptime_s` in seconds."""

    hostname: str
    pretty: str
    kernel: str
    uptime_s: float
    distribution: str = ""


class PackagesSeen(Frozen):
    """The driver's packages that are installed, everything on hold, and whether it was rackhand that pinned them."""

    installed: dict[str, str]
    held: tuple[str, ...]
    pinned: bool


class Reboot(Frozen):
    """What a reboot would bring; `kernel` is a newer one than runs.

    `module` says whether it has a driver's module, `headers` whether one can be built for it.
    """

    required: bool
    packages: tuple[str, ...] = ()
    kernel: str = ""
    module: bool | None = None
    headers: bool | None = None


class Deployed(Shelved):
    """The current release, since when (seconds since the epoch) it is that, and the one before."""

    since: float
    previous: str = ""


class UnitSeen(Frozen):
    """The unit of an instance as systemd has it, and what its process was started with."""

    name: str
    active: str
    sub: str
    enabled: bool
    restarts: int
    result: str
    ended: str
    pid: int
    running_config: str


class GateSeen(Frozen):
    """What the gate said: `failure` is empty for an instance that answered five tokens."""

    name: str
    failure: str
    what: str
    text: str = ""
    version: str = ""
    journal: tuple[str, ...] = ()
    unit: UnitSeen


class InstanceSeen(Frozen):
    """One instance; `state` is what routers are told, `load` the requests that run and wait, `gate` None unasked.

    `foreign` are drop-ins of others, `journal` the lines that tell why it is down or was started again.
    """

    name: str
    unit: UnitSeen
    up_s: float | None
    stale: bool
    foreign: tuple[str, ...]
    owed: bool
    state: str
    healthy: bool
    load: dict[str, float]
    kv_tokens: int | None
    journal: tuple[str, ...]
    gate: GateSeen | None


class OrderSeen(OpenOrder):
    """An open order; `created` is in seconds since the epoch."""

    created: float = 0.0
    phase: str = ""


class LeaseSeen(Lease):
    """Who holds the host, and from which machine."""

    controller: str = ""


class HaproxySeen(Frozen):
    """The router's unit."""

    active: str
    enabled: bool


class LastSeen(Frozen):
    """How the last order ended; `driver` is set where that had to go back as well."""

    run: str
    verdict: str
    code: str = ""
    what: str = ""
    to: str = ""
    at: float = 0.0
    driver: DriverBack | None = None


class Seen(Frozen):
    """Everything at one moment; `now` is the host's clock, `units` are unit files that are not the release's."""

    now: float
    host: HostSeen
    resources: Resources
    driver: DriverFacts
    packages: PackagesSeen
    nvml: Nvml
    reboot: Reboot
    release: Deployed | None
    units: tuple[str, ...]
    instances: tuple[InstanceSeen, ...]
    haproxy: HaproxySeen | None = None
    order: OrderSeen | None
    lease: LeaseSeen | None
    last: Annotated[LastSeen | None, BeforeValidator(lambda value: value or None)]


def parse(answer: Any, where: str) -> Seen:
    """Validate a host's answer; raises RackhandError `facts` when it makes no sense."""
    return validated(Seen, answer, where)
