"""Start many `vllm serve` on one GPU in little time: everything is imported once, and each engine is a fork of that.

Run by the other benchmarks with the Python that has vLLM; needs a GPU. Weights are dummies, so a config.json is enough.
"""

import importlib
import json
import os
import signal
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Without the architecture FlashInfer asks CUDA for it when imported, and a process that asked cannot fork engines.
ENVIRONMENT = {
    "VLLM_WORKER_MULTIPROC_METHOD": "fork",
    "FLASHINFER_CUDA_ARCH_LIST": "9.0a",
    "PYTORCH_NVML_BASED_CUDA_CHECK": "1",
    "VLLM_LOGGING_COLOR": "0",
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
}
HEAVY = (
    "vllm.entrypoints.cli.main",
    "vllm.entrypoints.cli.serve",
    "vllm.entrypoints.openai.api_server",
    "vllm.v1.engine.core",
    "vllm.v1.worker.gpu_worker",
    "vllm.v1.worker.gpu_model_runner",
    "vllm.benchmarks.serve",
    "transformers",
)
SPECIAL = ("<s>", "</s>")


@dataclass(frozen=True, kw_only=True)
class Started:
    """One forked command: its process id, and where it writes."""

    pid: int
    log: Path

    def lines(self) -> list[str]:
        return self.log.read_text(errors="replace").splitlines()

    def running(self) -> bool:
        with suppress(ChildProcessError):
            return os.waitpid(self.pid, os.WNOHANG)[0] == 0
        return False


def preload() -> None:
    """Import vLLM once; exits when that already touched CUDA, because its forks could not."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    for name in HEAVY:
        importlib.import_module(name)
    if importlib.import_module("torch").cuda.is_initialized():
        sys.exit("importing vLLM initialised CUDA: engines cannot be forked from this process")


def fork(arguments: Sequence[str], log: Path, environment: Mapping[str, str]) -> Started:
    """Run `vllm ARGUMENTS` in a fork, as its own session, writing to `log`."""
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return Started(pid=pid, log=log)
    os.setsid()
    target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o644)
    for stream in (1, 2):
        os.dup2(target, stream)
    os.environ.update(environment)
    sys.argv = ["vllm", *arguments]
    try:
        importlib.import_module("vllm.entrypoints.cli.main").main()
    except BaseException as error:
        print(repr(error), flush=True)
        os._exit(1)
    os._exit(0)


def stop(started: Started) -> None:
    """Kill an engine with everything it forked, and wait until it is gone."""
    for process in [*_family(started.pid), started.pid]:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    deadline = time.monotonic() + 20
    while started.running() and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(1)


def answers(port: int) -> bool:
    """Tell whether the engine on this port of the loopback says that it is healthy."""
    with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2) as reply:
        return bool(reply.status == 200)
    return False


def model_directory(home: Path, name: str, config: Mapping[str, Any]) -> Path:
    """Write a model without weights: its config.json and a tokenizer that fills its vocabulary."""
    home = home / name
    home.mkdir(parents=True, exist_ok=True)
    (home / "config.json").write_text(json.dumps(config))
    inner = config.get("text_config", config)
    size = int(inner["vocab_size"])
    tokenizers = importlib.import_module("tokenizers")
    words = {token: number for number, token in enumerate(_vocabulary(tokenizers, size))}
    model = tokenizers.models.BPE(vocab=words, merges=[])
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    tokenizer.save(str(home / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": SPECIAL[1], "model_max_length": 10**9}
    (home / "tokenizer_config.json").write_text(json.dumps(settings))
    return home


def _vocabulary(tokenizers: Any, size: int) -> Iterator[str]:
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    yield from SPECIAL
    yield from alphabet
    yield from (f"<filler-{number}>" for number in range(size - len(alphabet) - len(SPECIAL)))


def _family(pid: int) -> list[int]:
    """Return all descendants of a process, from /proc."""
    parents: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ValueError, IndexError):
            text = path.read_text()
            parents.setdefault(int(text.rpartition(")")[2].split()[1]), []).append(int(path.parent.name))
    found = list(parents.get(pid, []))
    for child in found:
        found += parents.get(child, [])
    return found
