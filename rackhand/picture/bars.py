"""The memory bill of one GPU as a stacked bar: which part goes to what. Pure; MiB."""

from collections.abc import Sequence
from dataclasses import dataclass

from rackhand.fitting.terms import Forecast

# In the order of the bar: what vLLM takes, then what it leaves.
NAMES = {
    "weights": "weights",
    "activation": "activations",
    "non_torch": "CUDA context, NCCL",
    "cuda_graphs": "CUDA graphs",
    "kv_cache": "KV cache",
    "other_processes": "other processes",
    "free": "left free",
}
INFORMATIVE = ("other_processes",)


@dataclass(frozen=True, kw_only=True)
class Slice:
    """One part of the bar; `term` is the bill's name for it or `free`, `share` is of the GPU's memory."""

    term: str
    mib: float
    share: float

    @property
    def name(self) -> str:
        return NAMES.get(self.term, self.term.replace("_", " "))


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One GPU's memory. `label` names whose it is, `note` says what the bill means in tokens.

    `end_mib` is where the drawing ends: the GPU's memory, or the sum of the bill where that is larger.
    """

    label: str
    note: str
    total_mib: float
    allowed_mib: float
    slices: tuple[Slice, ...]

    @property
    def end_mib(self) -> float:
        return max(self.total_mib, sum(part.mib for part in self.slices))

    @property
    def allowed_share(self) -> float:
        return self.allowed_mib / self.total_mib


def bar(label: str, note: str, forecast: Forecast, total_mib: float) -> Bar:
    """Draw a forecast against a GPU of `total_mib`; parts of nothing are left out, what remains is `free`."""
    sizes = {name: 0.0 for name in NAMES}
    for term in forecast.terms:
        sizes[term.name] = sizes.get(term.name, 0.0) + max(0.0, term.mib)
    sizes["free"] = max(0.0, total_mib - sum(sizes.values()))
    order = [name for name in sizes if name != "free"] + ["free"]
    parts = (Slice(term=name, mib=sizes[name], share=sizes[name] / total_mib) for name in order if sizes[name] >= 0.5)
    return Bar(
        label=label,
        note=note,
        total_mib=total_mib,
        allowed_mib=min(forecast.allowed_mib, total_mib),
        slices=tuple(parts),
    )


def cells(sizes: Sequence[float], width: int) -> list[int]:
    """Divide `width` cells in proportion to sizes: each gets at least one, the sum is exact (largest remainders)."""
    whole = sum(sizes)
    if not sizes or whole <= 0 or width < len(sizes):
        return [0] * len(sizes)
    exact = [size / whole * width for size in sizes]
    given = [max(1, int(size)) for size in exact]
    while sum(given) < width:
        given[max(range(len(given)), key=lambda place: exact[place] - given[place])] += 1
    while sum(given) > width:
        given[max((place for place, count in enumerate(given) if count > 1), key=lambda p: given[p] - exact[p])] -= 1
    return given
