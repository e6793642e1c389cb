"""Presets against vLLM's own defaults on one real GPU, each at its own goal, with `vllm bench serve`.

python benchmarks/presets.py table docs/evidence/presets-h200-0.26.0.json      # anywhere
python benchmarks/presets.py run --model CONFIG.json --vllm 0.26.0 --card H200 --out NEW.json   # on the GPU
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rackhand.catalog.gpus import gpu_book
from rackhand.catalog.serving import Preset
from rackhand.fitting.terms import Device
from rackhand.gpu_sets import find
from rackhand.models.config import spec_from_config
from rackhand.plan import Setting
from rackhand.remote import startup
from rackhand.serving.choose import choose
from rackhand.serving.terms import Ask, Case

DEFAULTS = "vLLM defaults"
PORT, READY_S, BENCH_S = 8500, 300.0, 240.0
KEYS = ("output_throughput", "median_ttft_ms", "median_tpot_ms", "p99_ttft_ms", "completed", "failed", "duration")
HEADER = (
    "settings",
    "workload",
    "output tokens/s",
    "p50 TTFT, ms",
    "p50 TPOT, ms",
    "against defaults: tokens/s, TTFT, TPOT",
)
PRESETS = (Preset.THROUGHPUT, Preset.LATENCY, Preset.LONG_CONTEXT, Preset.COST, Preset.DEBUG)


@dataclass(frozen=True, kw_only=True)
class Workload:
    """Random prompts: tokens in and out, how many at once, how many in all."""

    name: str
    input_len: int
    output_len: int
    concurrency: int
    prompts: int


WORKLOADS = (
    Workload(name="long prompts, 512 users", input_len=512, output_len=128, concurrency=512, prompts=1024),
    Workload(name="long answers, 512 users", input_len=128, output_len=512, concurrency=512, prompts=768),
    Workload(name="1 user", input_len=512, output_len=128, concurrency=1, prompts=12),
    Workload(name="8 users", input_len=512, output_len=128, concurrency=8, prompts=64),
)


def table(evidence: dict[str, Any]) -> Iterator[str]:
    """Yield a Markdown table: every run against the mean of the runs with vLLM's defaults."""
    workloads = dict.fromkeys(name for run in evidence["runs"] for name in run["results"])
    base = {name: _mean(evidence, name) for name in workloads}
    yield "| " + " | ".join(HEADER) + " |"
    yield "|" + "---|" * len(HEADER)
    for run in evidence["runs"]:
        for name, result in run["results"].items():
            figures = [result[key] for key in KEYS[:3]]
            ratios = [f"{value / mean:.2f}" if mean else "-" for value, mean in zip(figures, base[name], strict=True)]
            cells = [run["settings"], name, *(f"{value:,.1f}" for value in figures), ", ".join(ratios)]
            yield "| " + " | ".join(cells) + " |"
    yield ""
    starts = "; ".join(
        f"{run['settings']}: ready after {run['ready_s']} s, {run['kv_tokens']:,} KV tokens" for run in evidence["runs"]
    )
    yield starts + "."


def _mean(evidence: dict[str, Any], workload: str) -> list[float]:
    runs = [run["results"] for run in evidence["runs"] if run["settings"] == DEFAULTS and workload in run["results"]]
    return [statistics.mean(run[workload][key] for run in runs) if runs else 0.0 for key in KEYS[:3]]


def option_sets(config: dict[str, Any], version: str, card: str) -> Iterator[tuple[str, tuple[Setting, ...]]]:
    """Yield the defaults and every preset as rackhand would emit it here, with fp8 allowed; the defaults again last."""
    row = find(card, "--card")
    device = Device(card=row.name, capability=row.capability, total_mib=gpu_book().cuda_mib(row))
    spec = spec_from_config(config, "model")
    yield DEFAULTS, ()
    for preset in PRESETS:
        ask = Ask(version=version, preset=preset, allow_fp8=True, allow_fp8_cache=True)
        yield f"preset {preset}", choose(Case(spec=spec, device=device, ask=ask)).settings
    yield DEFAULTS, ()


def measure(model: Path, name: str, settings: tuple[Setting, ...], port: int, home: Path) -> dict[str, Any]:
    """Serve one option set and run every workload against it."""
    from benchmarks import engine_starts as engines

    options = [word for each in settings for word in _words(each)]
    arguments = ["serve", str(model), "--load-format", "dummy", "--host", "127.0.0.1", "--port", str(port)]
    began = time.monotonic()
    started = engines.fork([*arguments, "--served-model-name", "m", *options], home / f"{port}.log", {})
    while not engines.answers(port) and started.running() and time.monotonic() - began < READY_S:
        time.sleep(0.3)
    ready = round(time.monotonic() - began, 1)
    try:
        results = {each.name: _bench(each, model, port, home) for each in WORKLOADS}
        tokens = startup.tell(started.lines(), "").get("kv_tokens", 0)
    finally:
        engines.stop(started)
    return {"settings": name, "arguments": options, "ready_s": ready, "kv_tokens": tokens, "results": results}


def _words(setting: Setting) -> Iterator[str]:
    yield f"--{setting.name}"
    if setting.value is not True:
        yield str(setting.value)


def _bench(load: Workload, model: Path, port: int, home: Path) -> dict[str, Any]:
    from benchmarks import engine_starts as engines

    name = f"{port}-{load.concurrency}-{load.output_len}"
    target = ["bench", "serve", "--backend", "openai", "--base-url", f"http://127.0.0.1:{port}", "--model", "m"]
    data = ["--dataset-name", "random", "--random-input-len", str(load.input_len)]
    data += ["--random-output-len", str(load.output_len), "--num-prompts", str(load.prompts), "--ignore-eos"]
    rest = ["--max-concurrency", str(load.concurrency), "--num-warmups", str(min(load.concurrency, 32))]
    rest += ["--tokenizer", str(model), "--save-result", "--result-dir", str(home), "--result-filename", f"{name}.json"]
    started = engines.fork([*target, *data, *rest, "--disable-tqdm"], home / f"{name}.log", {})
    deadline = time.monotonic() + BENCH_S
    while started.running() and time.monotonic() < deadline:
        time.sleep(0.2)
    engines.stop(started)
    found = json.loads((home / f"{name}.json").read_text())
    return {key: found[key] for key in KEYS}


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Take the evidence on this machine's GPU."""
    from benchmarks import engine_starts as engines

    engines.preload()
    config = json.loads(arguments.model.read_text())
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        model = engines.model_directory(home, "model", config)
        sets = option_sets(config, arguments.vllm, arguments.card)
        runs = [measure(model, label, chosen, PORT + number, home) for number, (label, chosen) in enumerate(sets)]
    return {"device": arguments.card, "vllm": arguments.vllm, "model": str(arguments.model), "runs": runs}


def main() -> int:
    """Print the table of an evidence file, or take the evidence anew."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("table", "run"))
    parser.add_argument("evidence", type=Path, nargs="?")
    parser.add_argument("--model", type=Path)
    parser.add_argument("--vllm", default="0.26.0")
    parser.add_argument("--card", default="H200")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    evidence = run(arguments) if arguments.what == "run" else json.loads(arguments.evidence.read_text())
    if arguments.out:
        arguments.out.write_text(json.dumps(evidence, indent=1) + "\n")
    print("\n".join(table(evidence)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
