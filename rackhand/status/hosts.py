"""What about a host is not as it was deployed: release, driver, GPUs, packages, turn. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rackhand import lease, remedies
from rackhand.catalog import kernel_headers, ready_built
from rackhand.catalog.drivers import Manager
from rackhand.compiler import RED_HAT_IDS
from rackhand.naming import some
from rackhand.outcome import Problem
from rackhand.shelf import utc
from rackhand.status.instances import AGAIN, Standing, span, stand
from rackhand.status.seen import Deployed, Seen

STATUSES = GOOD, DRIFT, NOT_SERVING, EMPTY, FAILED, UNREACHABLE = (
    "good", "drift", "not serving", "empty", "failed", "unreachable",
)  # fmt: skip
# How an order ended that did not do what it was for.
IN_VAIN = ("restored", "stopped", "unchanged", "lost")


@dataclass(frozen=True, kw_only=True)
class HostStanding:
    """One host; `problem` says why it could not be asked, and then nothing else is known.

    `router` says that the inventory wants a router there, which needs no release.
    """

    name: str
    router: bool = False
    seen: Seen | None = None
    instances: tuple[Standing, ...] = ()
    drifts: tuple[Problem, ...] = ()
    notes: tuple[Problem, ...] = ()
    problem: Problem | None = None

    @property
    def status(self) -> str:
        if self.seen is None:
            return UNREACHABLE if self.problem is None or self.problem.code == "unreachable" else FAILED
        if self.router and (self.seen.haproxy is None or self.seen.haproxy.active != "active"):
            return NOT_SERVING if self.seen.haproxy else EMPTY
        if self.seen.release is None and not self.router:
            return EMPTY
        planned = [each for each in self.instances if each.planned is not None]
        if not all(each.state.serves for each in planned):
            return NOT_SERVING
        return DRIFT if self.drifts else GOOD


def judge(name: str, seen: Seen, wished: Mapping[str, Any], *, router: bool = False) -> HostStanding:
    """Judge everything that a host said; `wished` is its data in the inventory, which may want a router there."""
    instances = tuple(stand(name, seen, item) for item in seen.instances)
    drifts = [*(_router(name, seen) if router else ()), *(() if router and not seen.release else _release(name, seen))]
    if seen.release is not None:
        drifts += [*_stuck(name, seen), *_driver(name, seen), *_gpus(name, seen.release, seen), *_packages(name, seen)]
    notes = [*_at_work(name, seen), *_reboot(name, seen), *_last(name, seen), *_wishes(name, seen.release, wished)]
    return HostStanding(
        name=name,
        router=router,
        seen=seen,
        instances=instances,
        drifts=(*drifts, *(drift for each in instances for drift in each.drifts)),
        notes=(*notes, *(note for each in instances for note in each.notes)),
    )


def _router(host: str, seen: Seen) -> Iterator[Problem]:
    unit = seen.haproxy
    if unit is None:
        what = "HAProxy is not installed, and the inventory wants a router here"
        yield Problem(code="not-deployed", what=what, where=host, next_step="deploy to it first")
    elif unit.active != "active" or not unit.enabled:
        what = f"HAProxy is {unit.active}{'' if unit.enabled else ' and would not start at boot'}"
        step = f"{AGAIN}; if it stays so: journalctl -u haproxy -n 50 on the host"
        yield Problem(code="router-down", what=what, where=host, next_step=step)


def _release(host: str, seen: Seen) -> Iterator[Problem]:
    release = seen.release
    if release is None:
        what = "there is no release of rackhand on the host"
        yield Problem(code="not-deployed", what=what, where=host, next_step="deploy to it first")
        return
    if release.missing:
        what, step = f"release {release.id} lacks {release.missing}", f"{AGAIN}: it brings what is missing"
        yield Problem(code="release-incomplete", what=what, where=host, next_step=step)
    if release.edited:
        what = f"files of release {release.id} were changed by hand: {', '.join(release.edited)}"
        yield Problem(code="release-edited", what=what, where=host, next_step=f"{AGAIN}: it puts them back")
    if seen.units:
        what = f"unit files are not those of release {release.id}: {', '.join(seen.units)}"
        yield Problem(code="unit-edited", what=what, where=host, next_step=f"{AGAIN}: it puts them back")


def _driver(host: str, seen: Seen) -> Iterator[Problem]:
    loaded, library = seen.driver.loaded, seen.driver.library
    versions = f"module {loaded or 'none'}, library {library or 'none'}"
    if seen.nvml.state != "ok":
        what = f"NVML does not work: {seen.nvml.detail or seen.nvml.state} ({versions})"
        step = remedies.nvml(seen.nvml.state)
        yield Problem(code=f"nvml-{seen.nvml.state}", what=what, where=host, next_step=step)
    elif loaded != library:
        what = f"module and library of the driver differ ({versions})"
        step = f"{AGAIN}: it loads what is installed"
        yield Problem(code="driver-mismatch", what=what, where=host, next_step=step)
    if seen.release and seen.release.driver and loaded and loaded != seen.release.driver:
        what = f"driver {loaded} is loaded, release {seen.release.id} was deployed with {seen.release.driver}"
        step = f"{AGAIN}: it records this one, or installs the one that is wished"
        yield Problem(code="driver-changed", what=what, where=host, next_step=step)


def _gpus(host: str, release: Deployed, seen: Seen) -> Iterator[Problem]:
    there = uuids(seen)
    for instance in release.instances if seen.nvml.state in ("ok", "lost") else ():
        gone = [uuid for uuid in instance.gpus if uuid not in there]
        if gone:
            what = f"{len(gone)} of {len(instance.gpus)} GPUs gone: {', '.join(gone)}"
            where, step = (
                f"{host} vllm@{instance.name}",
                "look for Xid lines in the kernel log; reset, reboot or replace",
            )
            yield Problem(code="gpu-missing", what=what, where=where, next_step=step)


def uuids(seen: Seen) -> frozenset[str]:
    """Return the GPUs and MIG slices that NVML shows."""
    cards = [gpu for gpu in seen.nvml.gpus if not gpu.lost]
    return frozenset([*(gpu.uuid for gpu in cards), *(part.uuid for gpu in cards for part in gpu.slices)])


def _packages(host: str, seen: Seen) -> Iterator[Problem]:
    loose = sorted(set(seen.packages.installed) - set(seen.packages.held)) if seen.packages.pinned else []
    if loose:
        what = f"packages of the driver are not on hold: {', '.join(loose)}"
        hold = "dnf versionlock add" if seen.host.distribution in RED_HAT_IDS else "apt-mark hold"
        step = f"{AGAIN}, or: {hold} {' '.join(loose)}"
        yield Problem(code="package-unheld", what=what, where=host, next_step=step)


def _at_work(host: str, seen: Seen) -> Iterator[Problem]:
    order, held = seen.order, seen.lease
    if order is not None and order.alive:
        what = f"run {order.run} has an order open ({order.purpose or order.kind}{_to(order.to)})"
        what += f" for {span(seen.now - order.created)}, phase {order.phase or 'unknown'}"
        yield Problem(code="order-open", what=what, where=host, next_step="look again when it is through")
    if held is not None and held.expires >= seen.now:
        what = f"{held.owner} holds the host since {utc(held.since)} UTC ({held.purpose}, run {held.run})"
        yield Problem(code="leased", what=what, where=host, next_step="wait for that run to end")
    elif held is not None:
        what = f"the lease of {held.owner} ({held.purpose}, run {held.run}) ran out at {utc(held.expires)} UTC"
        yield Problem(code="lease-expired", what=what, where=host, next_step="nothing: the next run takes it over")


def _stuck(host: str, seen: Seen) -> Iterator[Problem]:
    if found := lease.stuck(host, seen.order):
        yield found


def _to(release: str) -> str:
    return f" to {release}" if release else ""


def _reboot(host: str, seen: Seen) -> Iterator[Problem]:
    reboot, cure, reasons = seen.reboot, _module(seen), []
    if reboot.required:
        reasons.append(f"the distribution asks for it{f' ({some(reboot.packages, 3)})' if reboot.packages else ''}")
    if reboot.kernel:
        module = ", without a module of the driver yet" if cure else ""
        reasons.append(f"kernel {reboot.kernel} is installed and {seen.host.kernel} runs{module}")
    if reasons:
        step = f"before the host reboots: {cure}" if cure else "reboot in a maintenance window"
        yield Problem(code="reboot-pending", what=f"a reboot is due: {'; '.join(reasons)}", where=host, next_step=step)


def _module(seen: Seen) -> str:
    """Return what brings the next kernel its module; empty where it has one, or this one needs none either."""
    reboot, installed = seen.reboot, seen.packages.installed
    if reboot.module is not False or not (installed or seen.driver.loaded):
        return ""
    manager: Manager = "dnf" if seen.host.distribution in RED_HAT_IDS else "apt"
    lacks = "" if reboot.headers else kernel_headers(manager, reboot.kernel)
    return remedies.module(reboot.kernel, manager, ready_built(installed, reboot.kernel), lacks)


def _last(host: str, seen: Seen) -> Iterator[Problem]:
    last = seen.last
    if last is not None and last.verdict in IN_VAIN and seen.order is None:
        why = f": {last.what} [{last.code}]" if last.what else ""
        driver = f"; {last.driver.words}" if last.driver else ""
        what = f"the last order (run {last.run}, {utc(last.at)} UTC{_to(last.to)}) ended {last.verdict}{why}{driver}"
        yield Problem(code="turn-failed", what=what, where=host, next_step="see the report of that run")


def _wishes(host: str, release: Deployed | None, wished: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield where the inventory plainly wishes something else; only a deploy with --dry tells all of it."""
    pairs = () if release is None else (
        ("vLLM", release.engine_version, wished.get("engine_version")),
        ("model", release.served_name, wished.get("model_name")),
    )  # fmt: skip
    other = [f"{name} {wish} instead of {there}" for name, there, wish in pairs if wish and str(wish) != there]
    if other:
        what = f"the inventory wishes {', '.join(other)}"
        step = "see what a deploy would change: pyinfra INVENTORY deploy.py --dry"
        yield Problem(code="not-as-wished", what=what, where=host, next_step=step)
