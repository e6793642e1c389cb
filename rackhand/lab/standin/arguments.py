"""The command line of `vllm serve`, as far as a provisioning tool uses it."""

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from .config_file import load_arguments

DEFAULT_MODEL = "Qwen/Qwen3-0.6B"
DEFAULT_CONTEXT_TOKENS = 4096
OPTIONS = frozenset((Path(__file__).parent / "options.txt").read_text(encoding="utf-8").split())
USAGE = "usage: vllm serve [model_tag] [options]\n"


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Hold what the server needs to know; keys empty means that authentication is off."""

    model: str
    served_model_name: str
    host: str
    port: int
    max_model_len: int
    shutdown_timeout_s: int
    api_keys: tuple[str, ...]
    given: dict[str, list[str]]


def parse(words: list[str]) -> Arguments:
    """Read the words after `vllm serve`. Ends the process with status 2 for an option that vLLM does not know."""
    positional, given = _split(_with_config(words))
    named = given.get("model", [DEFAULT_MODEL])[0]
    model = positional[0] if positional else named
    return Arguments(
        model=model,
        served_model_name=given.get("served-model-name", [model])[0],
        host=given.get("host", ["0.0.0.0"])[0],
        port=int(given.get("port", ["8000"])[0]),
        max_model_len=_context_tokens(model, given.get("max-model-len", ["auto"])[0]),
        shutdown_timeout_s=int(given.get("shutdown-timeout", ["0"])[0]),
        api_keys=_api_keys(given),
        given=given,
    )


def refuse(words: list[str]) -> NoReturn:
    """End as the real parser does for options it does not know."""
    sys.stderr.write(f"{USAGE}vllm: error: unrecognized arguments: {' '.join(words)}\n")
    raise SystemExit(2)


def _with_config(words: list[str]) -> list[str]:
    """Put the file's words before the others. `--config=FILE` is ignored, as in vLLM."""
    if "--config" not in words:
        return [word for word in words if not word.startswith("--config=")]
    at = words.index("--config")
    if at + 1 == len(words):
        raise ValueError("No config file specified! Please check your command-line arguments.")
    inside = load_arguments(words[at + 1])
    positional = words[:1] if words and not words[0].startswith("-") else []
    if not positional and "--model" not in inside:
        raise ValueError(
            "No model specified! Please specify model either as a positional argument or in a config file."
        )
    return [*positional, *inside, *words[len(positional) : at], *words[at + 2 :]]


def _split(words: list[str]) -> tuple[list[str], dict[str, list[str]]]:
    positional: list[str] = []
    given: dict[str, list[str]] = {}
    values = positional
    for word in words:
        if not word.startswith("--"):
            values.append(word)
            continue
        name, separator, value = word[2:].partition("=")
        values = given[_known(name)] = [value] if separator else []
    return positional[:1], given


def _known(name: str) -> str:
    spelled = name.split(".")[0].replace("_", "-")
    if spelled not in OPTIONS:
        refuse([f"--{name}"])
    return spelled


def _context_tokens(model: str, wanted: str) -> int:
    if wanted not in ("auto", "-1"):
        return int(wanted)
    config = Path(model, "config.json")
    document = json.loads(config.read_text(encoding="utf-8")) if config.is_file() else {}
    return int(document.get("max_position_embeddings", DEFAULT_CONTEXT_TOKENS))


def _api_keys(given: dict[str, list[str]]) -> tuple[str, ...]:
    if "api-key" in given:
        return tuple(key for key in given["api-key"] if key != "None")
    key = os.environ.get("VLLM_API_KEY", "")
    return (key,) if key else ()
