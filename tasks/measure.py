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


def wanted(host: HostRun, name: str) -> bool:
    """Tell whether the report of an engine that this run did not start is to be read: nobody has read it yet."""
    return _recorded(host, name) is None


def take(host: HostRun, results: Sequence[Mapping[str, Any]]) -> None:
    """Hold the reports among the gate's results against the forecasts, warn, and keep them beside the release.

    Instances whose report was read in an earlier run get that into the run's report. A release that was not planned
    in this run has no forecast to be held against.
    """
    read = [result for result in results if "reported" in result and host.release and _fresh(host, result)]
    fresh = [_measurement(host, result) for result in read]
    for measurement in fresh:
        _tell(host, measurement)
        warning = truth.warning(f"{host.name} vllm@{measurement.name}", truth.compare(measurement))
        host.warnings += [warning] if warning else []
    for name in (result["name"] for result in results if result not in read):
        record = _recorded(host, name)
        if record:
            _tell(host, record)
    if fresh and _kept(host, fresh):
        host.note("measured", release=host.wanted.id, memory=_ledger(host, [each.name for each in fresh]))


def _fresh(host: HostRun, result: Mapping[str, Any]) -> bool:
    return result.get("start_s") is not None or wanted(host, result["name"])


def _kept(host: HostRun, fresh: Sequence[Measurement]) -> bool:
    """Write the reports down; an engine that serves is not blamed for a record that cannot be written."""
    try:
        host.call("measured.keep", root=ROOT, release=host.wanted.id, instances=[_json(each) for each in fresh])
    except RackhandError as error:
        host.warnings.append(Problem.of(error))
        return False
    return True


def _ledger(host: HostRun, names: Sequence[str]) -> dict[str, dict[str, Any]]:
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
    """Return what is known of a running instance; that of another start or another release is none."""
    config = next((each.config for each in host.wanted.instances if each.name == name), "")
    records = host.survey().state.measured
    return next((each for each in records if each.running and (each.name, each.config) == (name, config)), None)


def _measurement(host: HostRun, result: Mapping[str, Any]) -> Measurement:
    instance = host.planned.instance(result["name"])
    forecast = instance.forecast
    return Measurement(
        name=instance.name,
        config=next(each.config for each in host.wanted.instances if each.name == instance.name),
        model=host.planned.model,
        reported=reported({**result["reported"], "ready_s": result.get("start_s")}),
        basis=instance.basis,
        predicted=terms_of(forecast) if forecast else (),
        predicted_tokens=forecast.kv_tokens if forecast else None,
    )


def _json(measurement: Measurement) -> dict[str, Any]:
    """Return a record as it lies on the host, which adds the release by itself."""
    return {name: value for name, value in asdict(measurement).items() if name not in ("release", "running")}
