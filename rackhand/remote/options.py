"""Ask the release's own vLLM whether it accepts the rendered options, before anything is switched.

Importing vLLM takes 10 to 30 s the first time; as root it also leaves the bytecode that the service may not write.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from rackhand.remote import command
from rackhand.remote.problem import Problem

LOG = "options"
REFUSED, ELSEWHERE = 2, 3
PARSER = f"""
import sys
try:
    from vllm.utils.argparse_utils import FlexibleArgumentParser
    from vllm.entrypoints.cli.serve import cmd_init
except ImportError as error:
    print(error)
    sys.exit({ELSEWHERE})
parser = FlexibleArgumentParser(prog="vllm")
commands = parser.add_subparsers(required=True, dest="subparser")
for each in cmd_init():
    each.subparser_init(commands)
for path in sys.argv[1:]:
    print("checking", path)
    parser.parse_args(["serve", "--config", path])
"""
ENVIRONMENT = {"VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1", "VLLM_LOGGING_LEVEL": "ERROR"}


def check(python: str, files: Sequence[Path], home: Path, timeout_s: int) -> bool:
    """Parse every file with vLLM's parser; return False where this vLLM keeps its parser elsewhere.

    Raises Problem `engine-options` with vLLM's own words.
    """
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    arguments = [python, "-c", PARSER, *map(str, files)]
    status, lines = command.run(arguments, LOG, timeout_s, {**ENVIRONMENT, "HOME": str(home)})
    if status == ELSEWHERE:
        return False
    if status:
        said = next((line for line in reversed(lines) if "error:" in line), "") or (lines or ["nothing"])[-1]
        text = re.sub(r"^.*error: ", "", said)
        raise Problem(
            "engine-options", f"vLLM refuses its options: {text}", "correct serve_options; nothing was switched"
        )
    return True
