"""Observe the engines of a host over its session: two calls, nothing is changed, no secret leaves the host."""

from collections.abc import Mapping
from typing import Any, Protocol

from rackhand import payload
from rackhand.diagnose import files
from rackhand.diagnose.metrics import traffic
from rackhand.diagnose.observation import Gate, Observation, Unit
from rackhand.errors import RackhandError
from rackhand.render import ROOT

CALL_S = 90
GATE_S = 60


class Asked(Protocol):
    """The one method of a session that is needed."""

    name: str

    def call(self, function: str, within_s: int = ..., **args: Any) -> Any: ...


def observe(session: Asked, seconds: int, *, gate: bool) -> tuple[Observation, ...]:
    """Watch every instance of a host's release for so many seconds; `gate` also asks each for five tokens.

    Raises RackhandError: those of a session, and `not-deployed` when the host holds no release.
    """
    found = session.call("observe.instances", CALL_S, root=ROOT)
    if not found["instances"]:
        raise RackhandError(
            "not-deployed", "there is no release of rackhand on the host", session.name, "deploy to it first"
        )
    settings = {
        item["name"]: files.settings_of(item["settings"], f"{session.name} vllm@{item['name']}")
        for item in found["instances"]
    }
    seen = session.call(
        "observe.watch",
        seconds + CALL_S + (GATE_S if gate else 0),
        instances=[_asked(name, options, found) for name, options in settings.items()],
        seconds=seconds,
        loader=payload.LOADER,
        gpu_payload=payload.gpu_load(seconds),
        gate_timeout_s=GATE_S if gate else None,
    )
    return tuple(_observation(session.name, item, settings[item["name"]], seen) for item in seen["instances"])


def _asked(name: str, options: Mapping[str, Any], release: Mapping[str, Any]) -> dict[str, Any]:
    """Say how an instance is asked, from its own settings."""
    context = options.get("max-model-len")
    return {
        "name": name,
        "host": options.get("host", "127.0.0.1"),
        "port": options.get("port", 8000),
        "model": release["model"],
        "version": release["version"],
        "max_model_len": context if isinstance(context, int) else None,
    }


def _observation(
    host: str, item: Mapping[str, Any], settings: Mapping[str, Any], seen: Mapping[str, Any]
) -> Observation:
    where = f"{host} {item['name']}"
    unit = item["unit"]
    cards = [seen["gpus"][uuid] for uuid in item["gpus"] if uuid in seen["gpus"]]
    return Observation(
        where=where,
        settings=settings,
        traffic=traffic(item["metrics"], where, seen["seconds"]) if item["metrics"] else None,
        utilisation=tuple(float(value) for card in cards for value in card["busy"]),
        journal=tuple(item["journal"]),
        kernel=tuple(seen["kernel"]),
        unit=Unit(active=unit["active"], enabled=unit["enabled"], restarts=unit["restarts"]),
        gate=Gate(failure=item["gate"]["failure"], what=item["gate"]["what"]) if item["gate"] else None,
        served_context=item["context"],
        capability=(cards[0]["capability"][0], cards[0]["capability"][1]) if cards else None,
    )
