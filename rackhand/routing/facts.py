"""What a router says about itself (the answer of rackhand.remote.router.look), as frozen and validated data."""

from rackhand.frozen import Frozen
from rackhand.routing.servers import Fronted
from rackhand.survey import PciFunction


class RouterFacts(Frozen):
    """One router. `running` is the digest of the configuration that HAProxy runs with, empty where it is none of ours.

    `foreign` says that somebody else has given HAProxy a configuration. `files` maps what lies there of ours to its
    digest, `addresses` the names that were asked for to what they are from there, empty where it does not find them.
    `unheard` are the servers in service whose hosts do not answer it whether they drain.
    """

    pci: tuple[PciFunction, ...]
    installed: bool
    foreign: bool
    files: dict[str, str]
    unit: str
    program: str
    running: str
    hosts: tuple[Fronted, ...]
    addresses: dict[str, str]
    unheard: tuple[str, ...] = ()
