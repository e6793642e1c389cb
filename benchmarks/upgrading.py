"""Upgrade practice hosts and let upgrades fail, while somebody outside asks every server for tokens all the time."""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import measuring, practice
from benchmarks.probing import Prober
from rackhand.lab import wheels
from rackhand.lab.host import LabHost
from rackhand.lab.standin.faults import CONFIGURATION
from rackhand.render import ROOT
from tests.lab.deploying import World

OLD, NEW, BAD = "0.31.0", "0.32.0", "0.33.0"
KEY = "RACKHAND_BENCHMARK_KEY"
PORT = 8000
Samples = dict[str, list[float]]


def measure(world: World, count: int, repeat: int) -> Samples:
    """Upgrade `repeat` times there and back, then let as many upgrades fail; seconds and counts by name."""
    os.environ[KEY] = "only-for-this-benchmark"
    hosts, found = practice.boot(world, count), Samples()
    for host in hosts:
        host.write(CONFIGURATION, f"fault completion-500 version={BAD}\n")
    _run(world, hosts, OLD, "healthy")
    for number in range(repeat):
        _upgrade(world, hosts, (NEW, OLD)[number % 2], found)
    serving = (OLD, NEW)[repeat % 2]
    for _ in range(repeat):
        _fail(world, hosts, found)
    for _ in range(repeat):
        _nothing(world, hosts, serving, found)
    return found


def _upgrade(world: World, hosts: Sequence[LabHost], version: str, found: Samples) -> None:
    with Prober({host.name: (host.address, PORT) for host in hosts}, os.environ[KEY]) as prober:
        report = _run(world, hosts, version, "healthy")
    for host in hosts:
        turn = _of(report, host)["turn"]
        _add(found, "out of service, as reported", turn["out_s"])
        _add(found, "of which the engine's own start", turn["start_s"])
        _add(found, "out of service beyond the start", turn["out_s"] - turn["start_s"])
        _add(found, "the same by the observer's count", prober.longest_gap_s(host.name) - turn["start_s"])
        _add(found, "SSH commands of a host that is upgraded", _of(report, host)["ssh_commands"])


def _fail(world: World, hosts: Sequence[LabHost], found: Samples) -> None:
    """The canary alone fails; it is the first host."""
    with Prober({host.name: (host.address, PORT) for host in hosts}, os.environ[KEY]) as prober:
        report = _run(world, hosts, BAD, "rolled back")
    turn, events = _of(report, hosts[0])["turn"], _events(hosts[0])
    failed = next(event["at"] for event in events if event["phase"] == "failed")
    after = [event for event in events if event["at"] >= failed]
    start, answering = (
        next(event["at"] for event in after if event["phase"] == phase) for phase in ("start", "answering")
    )
    _add(found, "failed gate to the old release serving, as reported", turn["back_s"])
    _add(found, "of which its engine's own start", answering - start)
    _add(found, "failed gate to serving beyond the start", turn["back_s"] - (answering - start))
    observed = prober.first_answer_after(hosts[0].name, failed) - failed
    _add(found, "the same by the observer's count, after a failed gate", observed - (answering - start))
    for host in hosts[1:]:
        _add(found, "longest gap of a host that had no turn", prober.longest_gap_s(host.name))


def _nothing(world: World, hosts: Sequence[LabHost], version: str, found: Samples) -> None:
    before = [measuring.heard(host) for host in hosts]
    report = _run(world, hosts, version, "unchanged")
    for host, was in zip(hosts, before, strict=True):
        _add(found, "SSH commands with nothing to do, as reported", _of(report, host)["ssh_commands"])
        _add(found, "sessions that sshd saw with nothing to do", measuring.heard(host) - was)


def _run(world: World, hosts: Sequence[LabHost], version: str, status: str) -> Mapping[str, Any]:
    """Deploy a version; end this program where the first host did not end as expected."""
    requirements = world.directory / f"requirements-{version}.txt"
    requirements.write_text(wheels.requirements(version))
    _, report = practice.deploy(
        world,
        hosts,
        engine_version=version,
        engine_requirements=str(requirements),
        serve_host="0.0.0.0",
        serve_api_key_from=f"env:{KEY}",
    )
    if not report or _of(report, hosts[0])["status"] != status:
        sys.exit(f"{(world.directory / 'deploy.log').read_text()[-6000:]}\n{version} did not end as '{status}'")
    print(f"{version}: {status}, {report['seconds']} s", file=sys.stderr, flush=True)
    return report


def _of(report: Mapping[str, Any], host: LabHost) -> Mapping[str, Any]:
    found: Mapping[str, Any] = next(each for each in report["hosts"] if each["name"] == f"@lab/{host.name}")
    return found


def _events(host: LabHost) -> list[dict[str, Any]]:
    """Return what the host itself wrote down; its clock is this machine's."""
    path = Path(host.rootfs, ROOT.lstrip("/"), "turn/events.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]


def _add(found: Samples, name: str, value: float) -> None:
    found.setdefault(name, []).append(round(value, 3))
