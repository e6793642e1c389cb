"""`rackhand fit`: does a model fit these GPUs, how would it be served, and what else would work. No host is asked."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rackhand.commands.question import Question

PLANNED, REFUSED = 0, 2
DESCRIPTION = """\
Plan a model on GPUs that need not be there: the same plan, from the same functions, that a deploy would make on such a
host with nothing else on its GPUs. SXM boards are taken to be joined by NVSwitches, other cards by PCIe alone.
"""
EPILOG = """\
examples:
  rackhand fit Qwen/Qwen3-8B --gpu 2xL4 --context 32768
  rackhand fit ./my-model --gpu 2xH100-SXM-80GB --set kv_cache_dtype=fp8 --picture bill.svg
  rackhand fit qwen3-8b --gpu A100-80GB+2xL4 --json

exit status: 0 there is a plan, 2 there is none (the reasons are listed), 1 the question is wrong or cannot be answered
"""


def add_parser(subparsers: Any) -> None:
    """Add `fit` to the command line."""
    parser = subparsers.add_parser(
        "fit",
        help="say whether a model fits GPUs, how it would be served, and why; no host needed",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("model", metavar="MODEL", help="a directory (config.json is enough), a hub id, or a name of the catalogue")
    add("--gpu", required=True, metavar="SET", help="one host's GPUs: H200, 2xH100-SXM-80GB, 2xA100-80GB+2xL4")
    add("--context", metavar="N", help="tokens of one sequence (default: the model's own)")
    add("--preset", default="balanced", metavar="P", help="balanced, throughput, latency, long-context, cost or debug")
    add("--vllm", metavar="V", help="version of vLLM (default: the one that a deploy installs)")
    add("--set", action="append", default=[], metavar="KEY=VALUE", dest="options", help="an engine setting by vLLM's "
        "name, such as gpu_memory_utilization=0.9 or enforce_eager=true; may be repeated")  # fmt: skip
    add("--free-mib", metavar="N", help="MiB that are free on each GPU (default: all of it)")
    add("--instances", metavar="N", help="how many servers (default: as many as the GPUs carry)")
    add("--allow-fp8", action="store_true", help="allow fp8 weights where the GPUs have fp8 arithmetic")
    add("--allow-fp8-kv", action="store_true", help="allow an fp8 KV cache where the GPUs have fp8 arithmetic")
    add("--revision", metavar="COMMIT", help="commit of a hub id (default: the newest); HF_TOKEN opens gated ones")
    add("--json", action="store_true", help="print JSON (schema rackhand.fit/1)")
    add("--picture", type=Path, metavar="FILE", help="also draw the memory bill, as FILE.svg or FILE.png")
    parser.set_defaults(main=main)


def main(arguments: argparse.Namespace) -> int:
    """Answer one question; return 0 for a plan and 2 for a refusal, raise RackhandError for anything else."""
    from rackhand.commands import answering, show

    if arguments.picture is not None:
        from rackhand.picture.files import check

        check(arguments.picture)
    answer = answering.answer(_question(arguments))
    if arguments.picture is not None:
        show.picture(answer, arguments.picture)
    show.answer(answer, as_json=arguments.json, stream=sys.stdout)
    return PLANNED if answer.fits else REFUSED


def _question(arguments: argparse.Namespace) -> "Question":
    from rackhand.commands import question
    from rackhand.settings import DEFAULTS

    def number(text: str | None, what: str, least: int = 1) -> int | None:
        return None if text is None else question.number(text, what, least)

    return question.Question(
        model=arguments.model,
        gpu=arguments.gpu,
        version=question.version(arguments.vllm or str(DEFAULTS["engine_version"])),
        preset=arguments.preset,
        context=number(arguments.context, "--context", question.SHORTEST_CONTEXT),
        options=question.options(arguments.options),
        free_mib=number(arguments.free_mib, "--free-mib", 0),
        instances=number(arguments.instances, "--instances"),
        allow_fp8=arguments.allow_fp8,
        allow_fp8_kv=arguments.allow_fp8_kv,
        revision=arguments.revision,
    )
