"""What `checklist` and `diagnose` look at: the arguments that say where, and the observations that come of them."""

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from rackhand.errors import RackhandError

if TYPE_CHECKING:
    from rackhand.diagnose.observation import Observation

SECONDS = 5
EPILOG = """\
With an INVENTORY the engines of its hosts are watched over SSH for some seconds. Without one the files are judged that
you give; FILE may be `-` for standard input. Nothing is ever changed.

exit status: 0 nothing failed, 2 something did, 1 something could not be looked at
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add everything that says what to look at."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    add = parser.add_argument
    add("inventory", nargs="?", metavar="INVENTORY", help="inventory file, such as inventory/prod.py")
    add("--limit", action="append", default=[], metavar="HOST", help="only these hosts or groups; may be repeated")
    add("--seconds", type=_seconds, default=SECONDS, metavar="N", help=f"how long to watch (default: {SECONDS})")
    add("--json", action="store_true", help="print JSON")
    add("--metrics", metavar="FILE|URL", help="a page of the engine's /metrics, or its address")
    add("--metrics-before", metavar="FILE", help="an earlier page: counters are then judged by what was added since")
    add("--journal", metavar="FILE", help="the engine's log (journalctl -u vllm@NAME)")
    add("--settings", metavar="FILE", help="the YAML that the engine was started with")
    add("--bench", metavar="FILE", help="a result of vllm bench serve --save-result")
    add("--gpu-util", metavar="FILE", help="nvidia-smi --query-gpu=utilization.gpu --format=csv -l 1, taken meanwhile")
    add("--unit", metavar="FILE", help="what systemctl show says about the unit")
    add("--models", metavar="FILE|URL", help="the answer of /v1/models, or its address")
    add("--client-threads", type=_seconds, metavar="N", help="connections of the program in front of the engine")
    add("--client-context", type=_seconds, metavar="N", help="context that this program is set to")
    add("--capability", type=_capability, metavar="X.Y", help="compute capability of the GPU (default: 8.0)")


def observations(arguments: argparse.Namespace, *, gate: bool) -> "tuple[list[Observation], list[RackhandError]]":
    """Look; return what was seen and what went wrong. Raises RackhandError for files that make no sense."""
    given = _given(arguments)
    if arguments.inventory and given:
        raise RackhandError("arguments", f"an inventory and {given[0]} at once", "rackhand", "give one or the other")
    if arguments.inventory:
        return _hosts(arguments, gate=gate)
    if not given:
        raise RackhandError("arguments", "nothing to look at", "rackhand", "give an INVENTORY, or files (see --help)")
    return [_files(arguments)], []


FILES = ("metrics", "journal", "settings", "bench", "gpu_util", "unit", "models")


def _given(arguments: argparse.Namespace) -> list[str]:
    return [f"--{name.replace('_', '-')}" for name in FILES if getattr(arguments, name) is not None]


def _hosts(arguments: argparse.Namespace, *, gate: bool) -> "tuple[list[Observation], list[RackhandError]]":
    # pyinfra is loaded for hosts alone: it takes its time, and patches the sockets of this process.
    from rackhand import reach
    from rackhand.diagnose import hosts

    answers = reach.ask(
        arguments.inventory, arguments.limit, lambda session: hosts.observe(session, arguments.seconds, gate=gate)
    )
    client = {"client_threads": arguments.client_threads, "client_context": arguments.client_context}
    found = [each for answer in answers.values() if not isinstance(answer, RackhandError) for each in answer]
    return [replace(each, **client) for each in found], [
        answer for answer in answers.values() if isinstance(answer, RackhandError)
    ]


def _files(arguments: argparse.Namespace) -> "Observation":
    from rackhand.diagnose import files
    from rackhand.diagnose.observation import Observation

    def read(name: str, how: Any, default: Any = None) -> Any:
        source = getattr(arguments, name)
        return default if source is None else how(source)

    settings = read("settings", files.settings)
    served = (settings or {}).get("served-model-name", [])
    names = served if isinstance(served, list) else [str(served)]
    return Observation(
        where="the files",
        settings=settings,
        traffic=read("metrics", lambda source: files.looks(source, arguments.metrics_before, arguments.seconds)),
        utilisation=read("gpu_util", files.utilisation, ()),
        journal=read("journal", files.lines, ()),
        unit=read("unit", files.unit),
        bench=read("bench", files.bench),
        served_context=read("models", lambda source: files.context(source, names)),
        client_context=arguments.client_context,
        client_threads=arguments.client_threads,
        capability=arguments.capability,
    )


def _seconds(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return value


def _capability(text: str) -> tuple[int, int]:
    major, dot, minor = text.partition(".")
    if not (dot and major.isdigit() and minor.isdigit()):
        raise argparse.ArgumentTypeError("must look like 9.0")
    return int(major), int(minor)
