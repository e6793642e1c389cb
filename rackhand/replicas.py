"""What a host serves before, after and between: the counts by which a rollout keeps enough servers of each model."""

from collections.abc import Mapping, Sequence

from rackhand.rollout.intent import Intent, Result
from rackhand.run import HostRun
from rackhand.shelf import Shelved, ShelvedInstance
from rackhand.steps import Change

STILL_SERVES = (None, "restored", "unchanged")


def intent_of(host: HostRun, changes: Sequence[Change]) -> Intent:
    """Say what a host wants of the rollout; all of its servers go together where they change their GPUs, too.

    Who changes nothing is believed to serve what it should: it is counted on once its gate has proved it.
    """
    serves, after = serving(host) if changes else _has(host), _after(host)
    together = any(change.together for change in changes) or _moved(host.before, host.target)
    whole = bool(changes) and together
    return Intent(disturbs=bool(changes), serves=serves, will_serve=after, has=_has(host), whole=whole)


def serving(host: HostRun) -> Mapping[str, int]:
    """Count the servers that take requests now, by the name under which clients ask for their model."""
    if host.before is None:
        return {}
    state = host.survey().state
    active = {unit.name for unit in state.instances if unit.active == "active"}
    well = active if state.in_service is None else active & {*state.in_service}
    return _count(host.before, [each for each in host.before.instances if each.name in well])


def beside(host: HostRun) -> Intent:
    """Say what a host serves, and ought to, that takes no part in the rollout."""
    return Intent(disturbs=False, serves=serving(host), has=_has(host))


def _has(host: HostRun) -> Mapping[str, int]:
    return _count(host.before, host.before.instances) if host.before else {}


def result_of(host: HostRun, interrupted: bool = False) -> Result:
    """Say how a host's turn ended and what it serves now."""
    if not host.problems and not interrupted:
        return Result(good=True, serves=_after(host))
    how = "rolled back" if host.went_back else "failed"
    verdict = host.result["verdict"] if host.result else None
    # Whoever is out of reach in the middle of its turn is not counted on.
    if host.before is None or host.order or verdict not in STILL_SERVES:
        return Result(good=False, how=how)
    gates = {name: gated.gate for name, gated in host.gated.items()}
    well = [each for each in host.before.instances if gates.get(each.name) != "failed"]
    return Result(good=False, serves=_count(host.before, well), how=how)


def _after(host: HostRun) -> Mapping[str, int]:
    if host.target is not None:
        return _count(host.target, host.target.instances)
    return {host.intent.settings.model_name: len(host.planned.instances)}


def _count(release: Shelved, instances: Sequence[ShelvedInstance]) -> Mapping[str, int]:
    return {release.served_name: len(instances)} if instances else {}


def _moved(before: Shelved | None, after: Shelved | None) -> bool:
    """Tell whether instances of another layout take the place of others, so that several make room for one."""
    if before is None or after is None:
        return False
    old, new = ({each.name: frozenset(each.gpus) for each in release.instances} for release in (before, after))
    return any(name not in old or old[name] != gpus for name, gpus in new.items()) and bool(old)
