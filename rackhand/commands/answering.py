"""From a question to its answer: the model's spec, GPUs on paper, and the plan that a deploy would make on them."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import SecretStr

from rackhand.arrangement import arrange, device_of
from rackhand.catalog import check_options
from rackhand.commands import asking, paper
from rackhand.commands.answer import Alternative, Answer, shown_gpu
from rackhand.commands.question import Question
from rackhand.fitting.terms import Forecast
from rackhand.hardware import describe
from rackhand.models.spec import ModelSpec
from rackhand.outcome import Problem
from rackhand.plan import Instance, PlannedGpu, Setting
from rackhand.serving.choose import choose
from rackhand.serving.terms import Case, Ranks, ask_of
from rackhand.settings import Settings

SIZES = (8, 4, 2, 1)
# Reasons speak of a deploy's settings; here they are typed otherwise.
TYPED = {
    r'serve_options\["([\w-]+)"\]': r"\1",
    "serve_max_model_len": "--context",
    "serve_instances": "--instances",
    "serve_allow_fp8_kv = True": "--allow-fp8-kv",
    "serve_allow_fp8 = True": "--allow-fp8",
    "serve_preset": "--preset",
    "engine_version": "--vllm",
    "serve_options": "given with --set",
    r"serve_(\w+)": r"\1",
}


@dataclass(frozen=True, kw_only=True)
class Posed:
    """One model on one host's GPUs with the settings of its deploy; alternatives change one part and try again."""

    model: str
    spec: ModelSpec
    gpus: tuple[PlannedGpu, ...]
    settings: Settings


def answer(question: Question) -> Answer:
    """Answer a question; raises RackhandError for a model, GPU, version or setting that there is not."""
    from rackhand.commands.alternatives import alternatives, other_cards
    from rackhand.models.find import find

    asking.check(question)
    gpus = paper.gpus(question.gpu, question.free_mib)
    token = os.environ.get("HF_TOKEN")
    spec = find(question.model, revision=question.revision, token=SecretStr(token) if token else None)
    posed = Posed(model=_shown(question.model), spec=spec, gpus=gpus, settings=asking.settings_of(question, spec))
    wrong, old = check_options(question.version, posed.settings.serve_options, ""), paper.too_old(posed.settings, gpus)
    found = _with(attempt(posed, question.gpu), (*wrong, *old), posed)
    if found.fits:
        assumed = paper.assumption(gpus)
        return typed(replace(found, words=(*found.words, *([assumed] if assumed else []))))
    others = () if wrong else (*(() if old else alternatives(posed)), *other_cards(posed))
    return typed(replace(found, alternatives=others, reasons=tuple(_stepped(found.reasons, others))))


def _with(found: Answer, problems: Sequence[Problem], posed: Posed) -> Answer:
    """Add reasons against what was asked to an answer; a plan that they rule out is none."""
    if not problems:
        return found
    reasons = (*problems, *found.reasons)
    return replace(found, instances=(), words=(), warnings=(), reasons=reasons, forecast=nearest(posed))


def _shown(model: str) -> str:
    """Return a model's name for people: a directory's last part, everything else as it was typed."""
    return Path(model).resolve().name if Path(model).is_dir() else model


def attempt(posed: Posed, where: str = "") -> Answer:
    """Plan once, without looking for alternatives."""
    arranged = arrange(where, posed.gpus, posed.spec, posed.settings)
    base = blank(posed.model, posed.spec, posed.gpus, posed.settings)
    if isinstance(arranged, tuple):
        return replace(base, reasons=arranged, forecast=nearest(posed))
    return replace(
        base,
        instances=arranged.instances,
        forecast=arranged.instances[0].forecast,
        words=(*arranged.reasons, *arranged.left_out),
        warnings=arranged.warnings,
    )


def blank(model: str, spec: ModelSpec | None, gpus: tuple[PlannedGpu, ...], settings: Settings) -> Answer:
    """Return an answer that says only what was asked."""
    return Answer(
        model=model,
        spec=spec,
        gpus=gpus,
        cards=describe(map(shown_gpu, gpus)),
        version=settings.engine_version,
        preset=settings.serve_preset,
        context=settings.serve_max_model_len,
    )


def nearest(posed: Posed) -> Forecast | None:
    """Return the bill of the wished division, or of all GPUs of the first kind together; None without a GPU."""
    if not posed.gpus:
        return None
    first, wished = posed.gpus[0], posed.settings
    alike = 1 if first.mig else sum(gpu.card == first.card for gpu in posed.gpus)
    possible = [size for size in SIZES if size <= alike and posed.spec.heads % size == 0]
    tensor, pipeline = wished.serve_tensor_parallel_size, wished.serve_pipeline_parallel_size
    ranks = Ranks(
        tensor=tensor if isinstance(tensor, int) else possible[0], pipeline=pipeline if isinstance(pipeline, int) else 1
    )
    return choose(Case(spec=posed.spec, device=device_of(first), ask=ask_of(wished), ranks=ranks)).forecast


def typed(found: Answer) -> Answer:
    """Put every sentence into the words of this command line."""
    return replace(
        found,
        instances=tuple(_typed_instance(instance) for instance in found.instances),
        words=tuple(map(_typed, found.words)),
        warnings=tuple(map(_typed, found.warnings)),
        reasons=tuple(
            replace(each, what=_typed(each.what), next_step=_typed(each.next_step)) for each in found.reasons
        ),
    )


def _stepped(reasons: Sequence[Problem], others: Sequence[Alternative]) -> Sequence[Problem]:
    """Give reasons about memory the alternatives as their next step."""
    from rackhand.arrangement import MEMORY_CODES

    steps = ", or ".join(f"add {' '.join(each.arguments)}" for each in others)
    return [replace(each, next_step=steps) if steps and each.code in MEMORY_CODES else each for each in reasons]


def _typed_instance(instance: Instance) -> Instance:
    return replace(instance, settings=tuple(map(_typed_setting, instance.settings)))


def _typed_setting(setting: Setting) -> Setting:
    return replace(setting, reason=_typed(setting.reason))


def _typed(text: str) -> str:
    for setting, words in TYPED.items():
        text = re.sub(setting, words, text)
    return text
