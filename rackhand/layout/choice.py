"""For one group of equal GPUs: the way to divide the model that carries the most instances. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rackhand.fitting.terms import Forecast
from rackhand.layout.terms import Assess, LayoutWish
from rackhand.layout.topology import Gpus, ordered, slots
from rackhand.layout.ways import Way, ways
from rackhand.models.spec import ModelSpec
from rackhand.outcome import Problem
from rackhand.plan import PlannedGpu

Key = tuple[int, tuple[int, int, int]]


@dataclass(frozen=True, kw_only=True)
class Choice:
    """How one group serves the model: `slots` are the GPUs of each instance (of each set of sharing instances)."""

    group: Gpus
    way: Way
    slots: tuple[Gpus, ...]

    @property
    def used(self) -> Gpus:
        return tuple(gpu for slot in self.slots for gpu in slot)


class Bench:
    """Asks for forecasts, each once; GPUs that differ only in place and links have the same."""

    def __init__(self, assess: Assess | None, wish: LayoutWish) -> None:
        self.assess = assess
        self.wish = wish
        self.shares: tuple[float | None, ...] = wish.shares or (None,)
        self.known: dict[tuple[object, ...], Forecast] = {}

    def forecast(self, gpu: PlannedGpu, way: Way, share: float | None) -> Forecast | None:
        """Return what one rank would hold; None where nobody can tell, or not before the driver tells the memory."""
        if self.assess is None or not gpu.memory_mib:
            return None
        key = (gpu.card, gpu.memory_mib, gpu.reserved_mib, gpu.free_mib, gpu.profile, way.tensor, way.pipeline, share)
        if key not in self.known:
            self.known[key] = self.assess(gpu, way.tensor, way.pipeline, share)
        return self.known[key]

    def forecasts(self, gpu: PlannedGpu, way: Way) -> tuple[Forecast, ...]:
        """Return the forecasts of all instances that would share the GPU; there is one where none is shared."""
        found = (self.forecast(gpu, way, share) for share in self.shares)
        return tuple(forecast for forecast in found if forecast is not None)

    def fits(self, gpu: PlannedGpu, way: Way) -> bool:
        return all(forecast.fits for forecast in self.forecasts(gpu, way))

    def tightest(self, slot: Sequence[PlannedGpu], way: Way, share: float | None) -> Forecast | None:
        """Return the forecast of the GPU of an instance that has the least room."""
        found = [forecast for gpu in slot if (forecast := self.forecast(gpu, way, share)) is not None]
        return min(found, key=lambda forecast: forecast.kv_tokens, default=None)


def shortfalls(forecast: Forecast) -> tuple[Problem, ...]:
    """Return why a forecast does not fit; one that fits vLLM and not the wish for a longer context says so."""
    longest = forecast.max_context
    short = Problem(
        code="does-not-fit",
        what=f"the longest context that fits is {longest:,} tokens, and a longer one is wished",
        where="",
        next_step=f"set serve_max_model_len to at most {longest}",
    )
    return forecast.reasons or (short,)


def groups(gpus: Sequence[PlannedGpu]) -> tuple[Gpus, ...]:
    """Divide GPUs into uniform groups: same card, same memory, same kind of slice; by first address."""
    found: dict[tuple[object, ...], list[PlannedGpu]] = {}
    for gpu in ordered(gpus):
        found.setdefault((gpu.card, gpu.memory_mib, gpu.mig, gpu.profile), []).append(gpu)
    return tuple(tuple(group) for group in found.values())


def choose(group: Gpus, spec: ModelSpec | None, wish: LayoutWish, bench: Bench) -> Choice | None:
    """Return the best choice: the most replicas (not more than wished), then the preferred way; None when none fits."""
    if unserved(group, wish):
        return None
    best: tuple[Key, Choice] | None = None
    rooms = {_room(gpu): gpu for gpu in group}
    for bound, way in sorted(_bounded(group, spec, wish), key=lambda pair: pair[0]):
        if best and best[0] <= bound:
            break
        fitting = {room for room, gpu in rooms.items() if bench.fits(gpu, way)}
        able = [gpu for gpu in group if _room(gpu) in fitting]
        found = slots(able, way.tensor, way.pipeline, way.link) if len(able) >= way.ranks else ()
        key = (-_counted(len(found), wish), way.preference)
        if found and (best is None or key < best[0]):
            best = key, Choice(group=group, way=way, slots=found)
    return best[1] if best else None


def _room(gpu: PlannedGpu) -> tuple[int, int | None]:
    """Return what alone can tell forecasts of a uniform group apart."""
    return gpu.reserved_mib, gpu.free_mib


def unserved(group: Gpus, wish: LayoutWish) -> bool:
    """Tell whether MIG is on and vLLM does not serve slices, or there is none."""
    return group[0].mig and not (wish.mig and group[0].profile)


def possible(group: Gpus, spec: ModelSpec | None, wish: LayoutWish) -> Iterator[Way]:
    """Yield the ways that the group has GPUs for; a slice is never joined with another."""
    for way in ways(spec, 1 if group[0].mig else len(group), wish):
        if slots(group, way.tensor, way.pipeline, way.link):
            yield way


def _bounded(group: Gpus, spec: ModelSpec | None, wish: LayoutWish) -> Iterator[tuple[Key, Way]]:
    """Yield each way with the best key that it could reach."""
    for way in ways(spec, 1 if group[0].mig else len(group), wish):
        yield (-_counted(len(group) // way.ranks, wish), way.preference), way


def _counted(slots: int, wish: LayoutWish) -> int:
    """Count instances, not more than are wished."""
    instances = slots * max(1, len(wish.shares))
    return instances if wish.instances is None else min(instances, wish.instances)
