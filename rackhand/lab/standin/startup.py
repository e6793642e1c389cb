"""The phases of a start, with the faults that strike there."""

import sys
import time
from pathlib import Path

from . import memory
from .arguments import Arguments, refuse
from .faults import Engine
from .journal import log, log_engine, traceback

NO_BLOCKS = (
    "ValueError: No available memory for the cache blocks. "
    "Try increasing `gpu_memory_utilization` when initializing the engine."
)
WORKER_FRAMES = (
    ("vllm/v1/engine/core.py", 1143, "run_engine_core", "engine_core = EngineCoreProc(*args, **kwargs)"),
    ("vllm/v1/core/kv_cache_utils.py", 712, "check_enough_kv_cache_memory", "raise ValueError("),
)


def start(arguments: Arguments, engine: Engine) -> None:
    """Go through the phases until the engine is ready. Raises SystemExit where vLLM would end."""
    if engine.fault("unknown-flag") is not None:
        refuse(["--no-such-flag"])
    _announce(arguments, engine)
    _require_model(arguments.model)
    log("Resolved architecture: LlamaForCausalLM", source="model.py:733")
    log(f"Using max model len {arguments.max_model_len}", source="model.py:2152")
    log_engine(
        f"Initializing a V1 LLM engine (v{engine.version}) with config: model={arguments.model!r}", source="core.py:133"
    )
    _wait(engine)
    _load(arguments, engine)
    if engine.fault("dies-at-start") is not None:
        _die(NO_BLOCKS)
    log_engine("init engine (profile, create kv cache, warmup model) took 0.01 s", source="core.py:402")


def _announce(arguments: Arguments, engine: Engine) -> None:
    log(f"version {engine.version}", source="api_utils.py:347")
    log(f"model   {arguments.model}", source="api_utils.py:347")
    shown = {name: "***" if name == "api-key" else values for name, values in arguments.given.items()}
    log(f"non-default args: {shown}", source="api_utils.py:286")


def _require_model(model: str) -> None:
    if not model.startswith("/") or Path(model, "config.json").is_file():
        return
    shape = "Repo id must be in the form 'repo_name' or 'namespace/repo_name'"
    sys.stderr.write(
        "Traceback (most recent call last):\n"
        f"huggingface_hub.errors.HFValidationError: {shape}: '{model}'. Use `repo_type` argument if needed.\n"
    )
    raise SystemExit(1)


def _wait(engine: Engine) -> None:
    if engine.fault("hangs-at-start") is not None:
        log_engine("Waiting for 1 worker process to become ready.", source="multiproc_executor.py:153")
        time.sleep(10**9)
    time.sleep(engine.fault_s("slow-start", 10.0) or 0.0)


def _load(arguments: Arguments, engine: Engine) -> None:
    found = memory.bill(arguments)
    runner = "gpu_model_runner.py:5150" if found else "cpu_model_runner.py:68"
    log_engine(f"Starting to load model {arguments.model}...", source=runner)
    log_engine("Loading weights took 0.00 seconds", source="default_loader.py:501")
    if found is None:
        _hold("CPU", 2_097_152, arguments)
        return
    log_engine(f"Model loading took {_gib(found.weights)} GiB memory and 0.010000 seconds", source=runner)
    less = engine.fault("less-cache")
    lost = 0.0 if less is None else float(less or 20) / 100
    cache = int(found.cache * (1 - lost))
    log_engine(f"Available KV cache memory: {_gib(cache)} GiB", source="gpu_worker.py:760")
    _hold("GPU", int(found.tokens * (1 - lost)) // memory.BLOCK * memory.BLOCK, arguments)
    peak, consumed = memory.ACTIVATION + found.cache - cache, found.weights + memory.OUTSIDE_TORCH
    log_engine(
        f"Free memory on device ({_gib(found.total)}/{_gib(found.total)} GiB) on startup. Desired GPU memory "
        f"utilization is ({found.allowed / found.total:.2f}, {_gib(found.allowed)} GiB). Actual usage is "
        f"{_gib(consumed)} GiB for consumed memory (weights + non-torch), {_gib(peak)} GiB for peak activation, and "
        "0.0 GiB for CUDAGraph memory.",
        source="gpu_worker.py:1045",
    )


def _hold(device: str, tokens: int, arguments: Arguments) -> None:
    log_engine(
        f"{device} KV cache size: {tokens:,} tokens, Maximum concurrency for {arguments.max_model_len:,} tokens per "
        f"request: {tokens / arguments.max_model_len:.2f}x",
        source="kv_cache_utils.py:2327",
    )


def _gib(size: int) -> float:
    return round(size / memory.GIB, 2)


def _die(error: str) -> None:
    traceback(error, frames=WORKER_FRAMES)
    sys.stderr.write(
        "Traceback (most recent call last):\n"
        '  File "vllm/v1/engine/utils.py", line 1042, in wait_for_engine_startup\n'
        "RuntimeError: Engine core initialization failed. See root cause above. "
        "Failed core proc(s): {'EngineCore': 1}\n"
    )
    raise SystemExit(1)
