"""Whether a plan would take a GPU from an engine that runs there, only because somebody else holds memory. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from rackhand import nearest
from rackhand.arrangement import Arrangement
from rackhand.fitting.known import Known
from rackhand.outcome import Problem
from rackhand.plan import PlannedGpu
from rackhand.seen import held_mib, serving
from rackhand.survey import Survey
from rackhand.wishes import Wishes


def driven_out(
    host: str, survey: Survey, found: Sequence[PlannedGpu], wishes: Wishes, past: Known, arranged: Arrangement
) -> Iterator[Problem]:
    """Yield a reason for each GPU that serves now and would not: to leave it would move the other engines, too."""
    busy = serving(survey)
    left = _unused(found, arranged)
    crowded = {gpu for gpu in left if gpu.free_mib is not None and gpu.address in busy}
    if not crowded or wishes.spec is None:
        return
    calm = tuple(replace(gpu, free_mib=None) for gpu in found)
    without = nearest.arranged(host, calm, wishes.spec, wishes.settings, past)
    if not isinstance(without, Arrangement):
        return
    unused = {gpu.address for gpu in _unused(calm, without)}
    for gpu in found:
        if gpu in crowded and gpu.address not in unused:
            yield Problem(
                code="memory-in-use",
                what=f"other processes hold {held_mib(gpu):,} MiB of {gpu.card} at {gpu.address}: the engine that runs "
                "there could not start again, and without it the others would move",
                where=host,
                next_step="end what else holds memory of that GPU, or stop the engine there to have the others moved",
            )


def _unused(gpus: Sequence[PlannedGpu], arranged: Arrangement) -> list[PlannedGpu]:
    used = {position for instance in arranged.instances for position in instance.gpus}
    return [gpu for position, gpu in enumerate(gpus) if position not in used]
