"""Lay instances out over one host's GPUs. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from rackhand.layout import refusals, words
from rackhand.layout.choice import Bench, Choice, choose, groups
from rackhand.layout.terms import Assess, Layout, LayoutWish
from rackhand.layout.topology import Gpus, ordered
from rackhand.models.spec import ModelSpec
from rackhand.outcome import Problem
from rackhand.plan import Instance, PlannedGpu, Setting


@dataclass(frozen=True, kw_only=True)
class Seat:
    """The place of one instance: its GPUs in rank order and its share of them.

    `turn` counts who shares the GPUs, `tokens` is the KV cache of all of them together.
    """

    choice: Choice
    gpus: Gpus
    share: float | None
    turn: int
    tokens: int

    @property
    def address(self) -> tuple[str, str]:
        return min((gpu.address, gpu.uuid) for gpu in self.gpus)


def lay_out(
    host: str,
    gpus: Sequence[PlannedGpu],
    spec: ModelSpec | None,
    wish: LayoutWish,
    assess: Assess | None,
    *,
    explain: bool = True,
) -> Layout | tuple[Problem, ...]:
    """Return the layout or every reason against one; the order of `gpus` changes nothing but positions.

    Without `spec` any size divides the model, without `assess` it fits: what nobody knows refuses nothing.

    A group of equal GPUs that cannot serve the model is left out with its reasons while another one can. Where nobody
    wants to be told why not (`explain`), reasons that take forecasts are not looked for: no layout is an empty tuple.
    """
    if problems := tuple(refusals.of_wish(host, len(gpus), spec, wish)):
        return problems
    bench, found = Bench(assess, wish), groups(gpus)
    choices = [choose(group, spec, wish, bench) for group in found]
    served = [choice for choice in choices if choice]
    if not served and not explain:
        return ()
    without = (group for group, choice in zip(found, choices, strict=True) if not choice)
    refused = [(group, refusals.of_group(host, group, spec, wish, bench)) for group in without]
    seats = [seat for choice in served for seat in _seats(choice, bench)]
    if not seats:
        return tuple(dict.fromkeys(problem for _, told in refused for problem in told)) or (refusals.no_gpu(host),)
    if problems := tuple(refusals.of_count(host, len(seats), wish)):
        return problems
    taken = _taken(seats, wish)
    return Layout(
        instances=_instances(host, gpus, taken, wish, bench),
        reasons=tuple(_reasons(served, taken, spec, bench)),
        left_out=tuple(_left_out(served, taken, refused, bench)),
    )


def _seats(choice: Choice, bench: Bench) -> Iterator[Seat]:
    for slot in choice.slots:
        found = [bench.tightest(slot, choice.way, share) for share in bench.shares]
        tokens = sum(forecast.kv_tokens for forecast in found if forecast)
        for turn, share in enumerate(bench.shares):
            yield Seat(choice=choice, gpus=slot, share=share, turn=turn, tokens=tokens)


def _taken(seats: Sequence[Seat], wish: LayoutWish) -> list[Seat]:
    """Take as many seats as are wished, those with the most room first; return them by address."""
    best = sorted(seats, key=lambda seat: (-seat.tokens, seat.address, seat.turn))
    return sorted(best[: wish.instances], key=lambda seat: (seat.address, seat.turn))


def _instances(
    host: str, gpus: Sequence[PlannedGpu], seats: Sequence[Seat], wish: LayoutWish, bench: Bench
) -> tuple[Instance, ...]:
    position = {(gpu.address, gpu.uuid): number for number, gpu in enumerate(gpus)}
    made: list[Instance] = []
    for number, seat in enumerate(seats):
        way, forecast = seat.choice.way, bench.tightest(seat.gpus, seat.choice.way, seat.share)
        instance = Instance(
            name=f"{wish.name}-{number}",
            port=wish.port + number,
            gpus=tuple(position[gpu.address, gpu.uuid] for gpu in seat.gpus),
            max_model_len=forecast.context if forecast else None,
            tensor_parallel_size=way.tensor,
            pipeline_parallel_size=way.pipeline,
            settings=tuple(_settings(seat)),
            forecast=forecast,
            cpus=",".join(dict.fromkeys(gpu.cpus for gpu in ordered(seat.gpus) if gpu.cpus)),
            numa_nodes=tuple(sorted({gpu.numa_node for gpu in seat.gpus if gpu.numa_node >= 0})),
            share=seat.share,
            starts_after=made[-1].name if seat.turn else None,
            hosts=(host,),
        )
        made.append(instance)
    return tuple(made)


def _settings(seat: Seat) -> Iterator[Setting]:
    way = seat.choice.way
    sizes = {"tensor-parallel-size": way.tensor, "pipeline-parallel-size": way.pipeline}
    for name, size in sizes.items():
        if size > 1:
            yield Setting(name=name, value=size, reason=words.divided(name, way), origin="layout")
    if seat.share is not None:
        reason = "this instance's share of a GPU that it does not have alone"
        yield Setting(name="gpu-memory-utilization", value=seat.share, reason=reason, origin="user")


def _reasons(served: Sequence[Choice], taken: Sequence[Seat], spec: ModelSpec | None, bench: Bench) -> Iterator[str]:
    for choice in served:
        seats = [seat for seat in taken if seat.choice is choice]
        if seats:
            slots = tuple(dict.fromkeys(seat.gpus for seat in seats))
            yield words.reason(replace(choice, slots=slots), len(seats), spec, bench)


def _left_out(
    served: Sequence[Choice],
    taken: Sequence[Seat],
    refused: Sequence[tuple[Gpus, tuple[Problem, ...]]],
    bench: Bench,
) -> Iterator[str]:
    used = {gpu for seat in taken for gpu in seat.gpus}
    for choice in served:
        yield from words.left_over(choice, used, bench)
    for _, told in refused:
        yield from dict.fromkeys(problem.what for problem in told)
