"""Arrange a model whose memory nobody can compute: on as many GPUs as are wished, else on one. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from rackhand.arrangement import Arrangement
from rackhand.layout.choice import groups
from rackhand.outcome import Problem
from rackhand.plan import Instance, PlannedGpu, Setting
from rackhand.settings import Settings

SIZES = (
    ("tensor-parallel-size", "serve_tensor_parallel_size"),
    ("pipeline-parallel-size", "serve_pipeline_parallel_size"),
    ("gpu-memory-utilization", "serve_gpu_memory_utilization"),
    ("max-model-len", "serve_max_model_len"),
)


def arrange(host: str, gpus: Sequence[PlannedGpu], settings: Settings, why: str) -> Arrangement | tuple[Problem, ...]:
    """Give every instance the wished number of equal GPUs; `why` says why the fit is not known."""
    sizes = {name: _wished(settings, key) for name, key in SIZES}
    tensor, pipeline = (int(sizes[name] or 1) for name, _ in SIZES[:2])
    slots = list(_slots(gpus, tensor * pipeline))
    wished = settings.serve_instances
    if not slots or (isinstance(wished, int) and wished > len(slots)):
        what = f"{wished} instances of {tensor * pipeline} equal GPUs are wished, the host carries {len(slots)}"
        step = "lower serve_instances, serve_tensor_parallel_size or serve_pipeline_parallel_size"
        return (Problem(code="too-many-instances", what=what, where=host, next_step=step),)
    chosen = slots[:wished] if isinstance(wished, int) else slots
    emitted = tuple(_settings(settings, sizes))
    instances = tuple(
        replace(
            Instance(name=f"{settings.model_name}-{number}", port=settings.serve_port + number, gpus=slot,
                     max_model_len=None, hosts=(host,)),
            tensor_parallel_size=tensor, pipeline_parallel_size=pipeline, settings=emitted,
        )
        for number, slot in enumerate(chosen)
    )  # fmt: skip
    words = f"{len(chosen)} instances, {tensor * pipeline} GPU each"
    return Arrangement(instances=instances, reasons=(words,), warnings=(f"whether the model fits is not known: {why}",))


def _wished(settings: Settings, key: str) -> float | None:
    value = getattr(settings, key)
    return value if isinstance(value, int | float) else None


def _slots(gpus: Sequence[PlannedGpu], ranks: int) -> Iterator[tuple[int, ...]]:
    position = {gpu: number for number, gpu in enumerate(gpus)}
    for group in groups(gpus):
        for start in range(0, len(group) - ranks + 1, ranks):
            yield tuple(position[gpu] for gpu in group[start : start + ranks])


def _settings(settings: Settings, sizes: dict[str, float | None]) -> Iterator[Setting]:
    for name, key in SIZES:
        value = sizes[name]
        if value is not None and (value > 1 or not name.endswith("parallel-size")):
            yield Setting(name=name, value=value, reason=key, origin="user")
    for name, given in settings.serve_options.items():
        yield Setting(name=name, value=given, reason="serve_options", origin="user")
