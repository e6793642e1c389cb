"""What engines report of their memory once they serve: kept on the host, and held against the forecast."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from rackhand import truth
from rackhand.errors import RackhandError
from rackhand.fitting.known import Measurement, reported, terms_of
from rackhand.outcome import Problem
from rackhand.render import ROOT
from rackhand.run import HostRun


def wanted(host: HostRun, name: str, started: bool) -> bool:
    """Tell whether an engine's report is to be read: it was started by this run, or nobody has read it yet."""
    return started or _recorded(host, name) is None


def take(host: HostRun, results: Sequence[Mapping[str, Any]], ready_s: float | None) -> None:
    """Hold the reports among the gate's results against the forecasts, warn, and keep them beside the release.

    Instances whose report was read in an earlier run get that into the run's report.
    """
    fresh = [_measurement(host, result, ready_s) for result in results if "reported" in result]
    for measurement in fresh:
        _tell(host, measurement)
        warning = truth.warning(f"{host.name} vllm@{measurement.name}", truth.compare(measurement))
        host.warnings += [warning] if warning else []
    for result in results:
        record = _recorded(host, result["name"]) if "reported" not in result else None
        if record:
            _tell(host, record)
    if fresh and host.release and _kept(host, host.release.id, fresh) and ready_s is None:
        host.note("measured", release=host.release.id, memory=ledger(host, [each.name for each in fresh]))


def _kept(host: HostRun, release: str, fresh: Sequence[Measurement]) -> bool:
    """Write the reports down; an engine that serves is not blamed for a record that cannot be written."""
    try:
        host.call("measured.keep", root=ROOT, release=release, instances=[_json(each) for each in fresh])
    except RackhandError as error:
        host.warnings.append(Problem.of(error))
        return False
    return True


def ledger(host: HostRun, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return what the ledger keeps of these instances: tokens as predicted and as reported, by how much percent off."""
    found = {name: memory for name in names if (memory := host.gated[name].memory)}
    return {
        name: {"kv_tokens": each.reported_tokens, "predicted": each.predicted_tokens, "percent": each.percent}
        for name, each in found.items()
    }


def _tell(host: HostRun, measurement: Measurement) -> None:
    gated = host.gated[measurement.name]
    host.gated[measurement.name] = replace(gated, memory=truth.compare(measurement))


def _recorded(host: HostRun, name: str) -> Measurement | None:
    config = host.release.configs.get(name) if host.release else None
    records = host.survey().state.measured
    return next((each for each in records if each.running and (each.name, each.config) == (name, config)), None)


def _measurement(host: HostRun, result: Mapping[str, Any], ready_s: float | None) -> Measurement:
    instance = host.planned.instance(result["name"])
    forecast = instance.forecast
    return Measurement(
        name=instance.name,
        config=host.release.configs[instance.name] if host.release else "",
        model=host.planned.model,
        reported=reported({**result["reported"], "ready_s": ready_s}),
        basis=instance.basis,
        predicted=terms_of(forecast) if forecast else (),
        predicted_tokens=forecast.kv_tokens if forecast else None,
    )


def _json(measurement: Measurement) -> dict[str, Any]:
    """Return a record as it lies on the host, which adds the release by itself."""
    return {name: value for name, value in asdict(measurement).items() if name not in ("release", "running")}
