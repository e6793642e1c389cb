"""Write the options of `vllm serve` as JSON, from the parser of the vLLM beside which this file runs.

Run with the Python of that vLLM: `VLLM_TARGET_DEVICE=cpu python parser_dump.py 0.33.0.json`. No GPU is needed, and the
standard library is enough besides vLLM. What it writes is what make_options.py reads.
"""

import importlib
import importlib.metadata
import json
import sys
from pathlib import Path
from typing import Any

# Where the parser was, newest place first.
PLACES = ("common", "launchers", "openai")


def main(path: str) -> None:
    """Write the options of this vLLM to `path`."""
    _pretend_a_cpu_build()
    parsing = importlib.import_module("vllm.utils.argparse_utils")
    parser = _arguments().make_arg_parser(parsing.FlexibleArgumentParser())
    options = [_option(action) for action in parser._actions if action.option_strings]
    Path(path).write_text(json.dumps(options) + "\n")


def _pretend_a_cpu_build() -> None:
    # vLLM looks for a GPU unless its version says that it was built for CPU.
    real = importlib.metadata.version

    def version(distribution_name: str) -> str:
        return f"{real(distribution_name)}{'+cpu' if distribution_name == 'vllm' else ''}"

    importlib.metadata.version = version


def _arguments() -> Any:
    for place in PLACES:
        try:
            return importlib.import_module(f"vllm.entrypoints.{place}.cli_args")
        except ModuleNotFoundError as error:
            if not (error.name or "").startswith("vllm.entrypoints"):
                raise
    raise SystemExit("this vLLM keeps its parser elsewhere: add the place to PLACES")


def _option(action: Any) -> dict[str, Any]:
    return {
        "opts": list(action.option_strings),
        "dest": action.dest,
        "default": repr(action.default),
        "type": _type(action.type),
        "choices": [str(choice) for choice in action.choices] if action.choices else None,
        "nargs": action.nargs,
        "action": type(action).__name__,
    }


def _type(convert: Any) -> str:
    """Name a converter; `optional_type(int)` is a closure, and what it closes over says more than its name."""
    name: str = getattr(convert, "__name__", str(convert))
    inner = [cell.cell_contents for cell in getattr(convert, "__closure__", None) or ()]
    if name not in ("_optional_type", "_parse_type"):
        return name
    return next((f"{name}:{_type(each)}" for each in inner if callable(each)), name)


if __name__ == "__main__":
    main(sys.argv[1])
