"""Everything that observations of one host say about its health, in order of what matters. Pure."""

from collections.abc import Iterator, Sequence

from rackhand.hardware import Inventory, PciDevice, identify
from rackhand.health import cards, dcgm, kernel, links, presence, software
from rackhand.health.policy import Policy, Promised, decided
from rackhand.health.seen import EngineSeen, Seen
from rackhand.outcome import Finding


def judge(
    host: str, seen: Seen, policy: Policy, promised: Promised, engines: Sequence[EngineSeen] | None = None
) -> tuple[Finding, ...]:
    """Return the findings of a host, those that block first.

    `engines` are the servers that it is to run; None for those of its current release, whose GPUs must then be there.
    Where others are to run, none of the release's GPUs may have gone without another, unless the inventory counts them.
    """
    bus = inventory(seen)
    found = [*presence.promised(bus, promised), *_found(seen, bus, seen.engines if engines is None else engines)]
    if engines is None:
        found += presence.deployed(seen)
    elif promised.gpu_count is None:
        found += presence.dwindled(seen)
    return decided(found, policy, host)


def inventory(seen: Seen) -> Inventory:
    """Identify what is on the PCI bus."""
    return identify(PciDevice.of(each.model_dump()) for each in seen.pci)


def _found(seen: Seen, bus: Inventory, engines: Sequence[EngineSeen]) -> Iterator[Finding]:
    yield from kernel.errors(seen.kernel)
    if not bus.gpus:
        return  # a driver without a card is nothing to complain of
    yield from software.driver(seen)
    yield from software.fabric_service(seen, bus)
    yield from software.cuda(seen)
    yield from software.nodes(seen)
    yield from presence.present(seen)
    yield from links.fabric(seen.well, bus)
    yield from links.nvlinks(seen.well, bus, engines)
    for gpu in seen.well:
        yield from cards.condition(gpu)
        yield from links.pcie(gpu)
    yield from dcgm.tested(seen.dcgm)
