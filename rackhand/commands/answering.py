"""From a question to its answer: the model's spec, GPUs on paper, and the plan that a deploy would make on them."""

from dataclasses import dataclass, replace

from rackhand.arrangement import arrange, device_of
from rackhand.commands import asking, paper
from rackhand.commands.answer import Answer
from rackhand.commands.question import Question
from rackhand.fitting.terms import Forecast
from rackhand.hardware import describe
from rackhand.models.spec import ModelSpec
from rackhand.plan import PlannedGpu
from rackhand.serving.choose import choose
from rackhand.serving.terms import Case, Ranks, ask_of
from rackhand.settings import Settings

HOST = "paper"
SIZES = (8, 4, 2, 1)
# Reasons speak of a deploy's settings; here they are typed otherwise.
TYPED = {
    "serve_max_model_len": "--context",
    "serve_instances": "--instances",
    "serve_allow_fp8_kv = True": "--allow-fp8-kv",
    "serve_allow_fp8 = True": "--allow-fp8",
    "serve_gpu_memory_utilization": "--set gpu_memory_utilization",
    "serve_tensor_parallel_size": "--set tensor_parallel_size",
    "serve_pipeline_parallel_size": "--set pipeline_parallel_size",
    "serve_preset": "--preset",
    "engine_version": "--vllm",
    "serve_options": "--set",
}


@dataclass(frozen=True, kw_only=True)
class Posed:
    """A question with everything that it refers to resolved; alternatives change one part and ask again."""

    question: Question
    spec: ModelSpec
    gpus: tuple[PlannedGpu, ...]
    settings: Settings


def answer(question: Question) -> Answer:
    """Answer a question; raises RackhandError for a model, GPU, version or setting that there is not."""
    from rackhand.commands.alternatives import alternatives
    from rackhand.models.find import find

    asking.check(question)
    gpus = paper.gpus(question.gpu, question.free_mib)
    spec = find(question.model, revision=question.revision)
    posed = Posed(question=question, spec=spec, gpus=gpus, settings=asking.settings_of(question, spec))
    found = attempt(posed)
    return found if found.fits else replace(found, alternatives=alternatives(posed))


def attempt(posed: Posed) -> Answer:
    """Plan once, without looking for alternatives."""
    question, gpus, spec = posed.question, posed.gpus, posed.spec
    arranged = arrange(HOST, gpus, spec, posed.settings)
    base = Answer(
        spec=spec,
        gpus=gpus,
        cards=describe(gpu.card for gpu in gpus),
        version=question.version,
        preset=question.preset,
        context=question.context,
    )
    if isinstance(arranged, tuple):
        reasons = (replace(each, what=_typed(each.what), next_step=_typed(each.next_step)) for each in arranged)
        return replace(base, reasons=tuple(reasons), forecast=_nearest(posed))
    assumed = paper.assumption(gpus)
    return replace(
        base,
        instances=arranged.instances,
        forecast=arranged.instances[0].forecast,
        words=tuple(_typed(text) for text in (*arranged.reasons, *arranged.left_out, *([assumed] if assumed else []))),
        warnings=tuple(_typed(text) for text in arranged.warnings),
    )


def _nearest(posed: Posed) -> Forecast:
    """Return the bill of the wished division, or of all GPUs of the first kind together."""
    first, wished = posed.gpus[0], posed.settings
    alike = sum(gpu.card == first.card for gpu in posed.gpus)
    possible = [size for size in SIZES if size <= alike and posed.spec.heads % size == 0]
    tensor, pipeline = wished.serve_tensor_parallel_size, wished.serve_pipeline_parallel_size
    ranks = Ranks(
        tensor=tensor if isinstance(tensor, int) else possible[0], pipeline=pipeline if isinstance(pipeline, int) else 1
    )
    return choose(Case(spec=posed.spec, device=device_of(first), ask=ask_of(wished), ranks=ranks)).forecast


def _typed(text: str) -> str:
    for setting, typed in TYPED.items():
        text = text.replace(setting, typed)
    return text
