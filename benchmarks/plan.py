"""Measure the planner: how long 1,000 hosts take that are all alike, of sixteen kinds, or all different.

Run anywhere: `uv run python benchmarks/plan.py [--model llama-3.1-8b-instruct]`. No host is asked: the hosts are those
of the golden plans, each saying of itself what a real one says. All different means that each has another memory.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from itertools import cycle, islice
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rackhand import nearest, planner
from rackhand.fitting.forecast import forecast
from rackhand.plan import Plan
from rackhand.serving.choose import choose
from rackhand.survey import Survey
from rackhand.wishes import Wishes
from tests.hosts_at_work import HOSTS, wished

COUNT = 1000
COLUMNS = ("hosts", "planned", "refused", "wall, s", "per host, ms")


def main() -> None:
    """Plan each fleet once, from empty caches, and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", default="llama-3.1-8b-instruct", help="an id of the catalogue")
    model = parser.parse_args().model
    load = os.getloadavg()[0]
    asks = wished(model)
    planner.plan("warm-up", HOSTS["1xH200"], asks)
    print(f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, load before {load:.1f}, one process, {model}\n")
    for line in (COLUMNS, ("---",) * len(COLUMNS), *(_row(name, made(), asks) for name, made in FLEETS.items())):
        print(f"| {' | '.join(line)} |", flush=True)


def _row(name: str, fleet: Sequence[Survey], asks: Wishes) -> tuple[str, ...]:
    for kept in (nearest._arranged, choose, forecast):
        kept.cache_clear()
    begun = time.perf_counter()
    planned = sum(isinstance(planner.plan(f"host-{at}", each, asks), Plan) for at, each in enumerate(fleet))
    wall_s = time.perf_counter() - begun
    refused = len(fleet) - planned
    return (
        f"{len(fleet):,} {name}",
        f"{planned:,}",
        f"{refused:,}",
        f"{wall_s:.2f}",
        f"{1000 * wall_s / len(fleet):.2f}",
    )


def _alike(name: str) -> list[Survey]:
    return [HOSTS[name]] * COUNT


def _kinds() -> list[Survey]:
    return list(islice(cycle(HOSTS.values()), COUNT))


def _different(*names: str) -> list[Survey]:
    """Return hosts of some kinds of which no two have the same memory."""
    seen = [HOSTS[name] for name in names or HOSTS]
    return [_less(seen[at % len(seen)], at) for at in range(COUNT)]


def _less(seen: Survey, mib: int) -> Survey:
    cards = tuple(
        gpu.model_copy(update={"memory_mib": gpu.memory_mib - mib, "free_mib": gpu.free_mib - mib})
        for gpu in seen.nvml.gpus
    )
    return seen.model_copy(update={"nvml": seen.nvml.model_copy(update={"gpus": cards})})


FLEETS: dict[str, Callable[[], list[Survey]]] = {
    "alike, eight H100": lambda: _alike("8xH100-nvswitch"),
    "alike, one T4": lambda: _alike("1xT4"),
    "of sixteen kinds": _kinds,
    "all different, of sixteen kinds": _different,
    "all different, eight H100 each": lambda: _different("8xH100-nvswitch"),
    "all different, four A100 each": lambda: _different("4xA100-40-nvlink-pairs"),
    "all different, one T4 each": lambda: _different("1xT4"),
}

if __name__ == "__main__":
    main()
