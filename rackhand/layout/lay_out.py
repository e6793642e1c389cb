"""Lay instances out over one host's GPUs. Pure."""

from collections.abc import Sequence

from rackhand.layout.terms import Assess, Layout, LayoutWish
from rackhand.models.spec import ModelSpec
from rackhand.outcome import Problem
from rackhand.plan import PlannedGpu


def lay_out(
    host: str, gpus: Sequence[PlannedGpu], spec: ModelSpec, wish: LayoutWish, assess: Assess
) -> Layout | tuple[Problem, ...]:
    """Return the layout or every reason against one; the order of `gpus` changes nothing but positions."""
    raise NotImplementedError
