"""Arrange a model whose memory nobody can compute: on as many GPUs as are wished, else on one. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from rackhand.arrangement import Arrangement, wish_of
from rackhand.layout.lay_out import lay_out
from rackhand.outcome import Problem
from rackhand.plan import Instance, PlannedGpu, Setting
from rackhand.settings import Settings

WISHED = (
    ("gpu-memory-utilization", "serve_gpu_memory_utilization"),
    ("max-model-len", "serve_max_model_len"),
)


def arrange(host: str, gpus: Sequence[PlannedGpu], settings: Settings, why: str) -> Arrangement | tuple[Problem, ...]:
    """Lay out by what is wished and by the GPUs' links alone; `why` says why the fit is not known."""
    layout = lay_out(host, gpus, None, wish_of(settings), None)
    if isinstance(layout, tuple):
        return layout
    return Arrangement(
        instances=tuple(
            replace(each, settings=(*each.settings, *_settings(settings, each))) for each in layout.instances
        ),
        reasons=layout.reasons,
        left_out=layout.left_out,
        warnings=(f"whether the model fits is not known: {why}",),
    )


def _settings(settings: Settings, instance: Instance) -> Iterator[Setting]:
    for name, key in WISHED:
        value = getattr(settings, key)
        shared = instance.share is not None and name == "gpu-memory-utilization"
        if isinstance(value, int | float) and not shared:
            yield Setting(name=name, value=value, reason=key, origin="user")
    for name, given in settings.serve_options.items():
        yield Setting(name=name, value=given, reason="serve_options", origin="user")
