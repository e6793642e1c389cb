"""What rackhand forecasts against what vLLM reports, for many configurations on one real GPU.

    python benchmarks/fit.py table docs/evidence/fit-h200-0.26.0.json      # anywhere: forecast again and compare
    python benchmarks/fit.py run docs/evidence/fit-h200-0.26.0.json --out NEW.json [--only NAME ...]   # on the GPU

`table` exits 1 when the median error of KV tokens is above 2 %, the worst above 5 %, or a forecast says "fits" where
vLLM refused. `run` starts every configuration of a file again and writes a new one; it needs vLLM and rackhand's
requirements in one Python.
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

from rackhand.fitting.terms import Device, Forecast
from rackhand.models.config import spec_from_config
from rackhand.remote import startup
from rackhand.serving.choose import choose
from rackhand.serving.terms import Ask, Case

MEDIAN, WORST = 0.02, 0.05
PORT, LIMIT_S = 8400, 300.0
HEADER = (
    "configuration",
    "settings",
    "vLLM: KV tokens",
    "forecast",
    "error",
    "error before calibration",
    "weights, MiB (vLLM / forecast)",
    "activation, MiB (vLLM / forecast)",
    "CUDA graphs charged, MiB",
)


@dataclass(frozen=True, kw_only=True)
class Compared:
    """One configuration: what vLLM said and what is forecast; errors are forecast / reported - 1."""

    run: dict[str, Any]
    forecast: Forecast

    @property
    def started(self) -> bool:
        return bool(self.run["reported"]["outcome"] == "started")

    @property
    def error(self) -> float | None:
        tokens = self.run["reported"].get("kv_tokens")
        return self.forecast.kv_tokens / tokens - 1 if tokens else None

    @property
    def error_before(self) -> float | None:
        tokens, before = self.run["reported"].get("kv_tokens"), self.run.get("predicted_before")
        return before["kv_tokens"] / tokens - 1 if tokens and before else None


def compare(evidence: dict[str, Any]) -> list[Compared]:
    """Forecast every configuration of an evidence file with today's code."""
    device = evidence["device"]
    card = Device(
        card=device["card"], capability=tuple(device["compute_capability"]), total_mib=int(device["total_mib"])
    )
    return [Compared(run=run, forecast=_forecast(evidence, run, card)) for run in evidence["runs"]]


def _forecast(evidence: dict[str, Any], run: dict[str, Any], card: Device) -> Forecast:
    options = {name.replace("_", "-"): value for name, value in run["settings"].items()}
    context, share = options.pop("max-model-len", None), options.pop("gpu-memory-utilization", None)
    ask = Ask(version=evidence["vllm"], options=options, max_model_len=context, gpu_memory_utilization=share)
    spec = spec_from_config(evidence["models"][run["model"]], run["model"])
    return choose(Case(spec=spec, device=card, ask=ask)).forecast


def verdict(compared: list[Compared]) -> tuple[float, float, list[str]]:
    """Return the median and the worst error of KV tokens, and the names of what fits here and not in vLLM."""
    errors = [abs(each.error) for each in compared if each.error is not None]
    wrong = [each.run["name"] for each in compared if each.forecast.fits and not each.started]
    return statistics.median(errors), max(errors), wrong


def table(evidence: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of the comparison as a Markdown table with a summary."""
    compared = compare(evidence)
    median, worst, wrong = verdict(compared)
    yield "| " + " | ".join(HEADER) + " |"
    yield "|" + "---|" * len(HEADER)
    for each in compared:
        yield "| " + " | ".join(_cells(each)) + " |"
    started = sum(each.started for each in compared)
    yield ""
    yield (
        f"{started} configurations started and {len(compared) - started} were refused by vLLM {evidence['vllm']} on an "
        f"{evidence['device']['name']}: median error {median:.3%}, worst {worst:.2%}; forecast to fit where vLLM "
        f"refused: {', '.join(wrong) or 'none'}."
    )


def _cells(each: Compared) -> list[str]:
    reported, settings = each.run["reported"], each.run["settings"]
    words = ", ".join(name if value is True else f"{name} {json.dumps(value)}" for name, value in settings.items())
    told = f"{reported['kv_tokens']:,}" if each.started else "refused"
    answer = f"{each.forecast.kv_tokens:,}" if each.forecast.fits else "refused"
    errors = [f"{error:+.3%}" if error is not None else "" for error in (each.error, each.error_before)]
    terms = {"weights_mib": "weights", "activation_mib": "activation", "graphs_estimate_mib": "cuda_graphs"}
    pairs = [
        f"{reported[name]:,.0f} / {each.forecast.mib(term):,.0f}" if name in reported else ""
        for name, term in terms.items()
    ]
    return [f"`{each.run['name']}`", words, told, answer, *errors, *pairs]


def start_all(evidence: dict[str, Any], only: list[str], home: Path) -> Iterator[dict[str, Any]]:
    """Start the configurations one after the other and yield each with what its log reports."""
    from benchmarks import engine_starts as engines

    engines.preload()
    for number, run in enumerate(evidence["runs"]):
        if only and run["name"] not in only:
            continue
        model = engines.model_directory(home, run["model"], evidence["models"][run["model"]])
        arguments = ["serve", str(model), "--load-format", "dummy", "--host", "127.0.0.1"]
        arguments += ["--port", str(PORT + number), *_options(run["settings"])]
        started = engines.fork(arguments, home / f"{run['name']}.log", run.get("environment", {}))
        reported = _wait(started, PORT + number)
        engines.stop(started)
        print(run["name"], json.dumps(reported), flush=True)
        yield {"name": run["name"], "model": run["model"], "settings": run["settings"], "reported": reported}


def _options(settings: dict[str, Any]) -> Iterator[str]:
    for name, value in settings.items():
        yield f"--{name.replace('_', '-')}"
        if value is not True:
            yield value if isinstance(value, str) else json.dumps(value)


def _wait(started: Any, port: int) -> dict[str, Any]:
    """Wait until an engine serves or has ended, and return what its log says."""
    from benchmarks import engine_starts as engines

    deadline = time.monotonic() + LIMIT_S
    while started.running() and time.monotonic() < deadline:
        if engines.answers(port):
            break
        time.sleep(0.3)
    lines = started.lines()
    said = startup.tell(lines, "")
    told = {
        "outcome": "started" if "kv_tokens" in said else "refused",
        "kv_tokens": said.get("kv_tokens"),
        "weights_mib": said.get("weights_mib"),
        "activation_mib": said.get("activation_mib"),
        "non_torch_mib": said.get("non_torch_mib"),
        "graphs_estimate_mib": said.get("graphs_charged_mib"),
        "graphs_mib": said.get("graphs_mib"),
        "available_mib": said.get("available_kv_mib"),
        "error": next((line.split("Error: ", 1)[1] for line in reversed(lines) if "ValueError: " in line), None),
    }
    return {name: value for name, value in told.items() if value is not None}


def main() -> int:
    """Print the table of an evidence file, or take the evidence anew."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("table", "run"))
    parser.add_argument("evidence", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--only", nargs="*", default=[])
    arguments = parser.parse_args()
    evidence = json.loads(arguments.evidence.read_text())
    if arguments.what == "run":
        with tempfile.TemporaryDirectory() as home:
            evidence["runs"] = list(start_all(evidence, arguments.only, Path(home)))
        if arguments.out:
            arguments.out.write_text(json.dumps(evidence, indent=1) + "\n")
    print("\n".join(table(evidence)))
    median, worst, wrong = verdict(compare(evidence))
    return int(median > MEDIAN or worst > WORST or bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
