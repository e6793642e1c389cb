"""Build what a host says of how it stands: all well, one instance; every test changes only what it is about."""

from collections.abc import Mapping
from typing import Any

from rackhand.status.hosts import HostStanding, judge
from rackhand.status.seen import Seen, parse
from tests.shelves import MADE, Laid
from tests.surveys import CARDS, DRIVER, address, uuid

NOW = MADE + 500_000
RELEASE = Laid(number=1, venv=1, gpus=(uuid(0),), driver=DRIVER)
DIED = ("INFO: serving", "vllm@tiny-0.service: Main process exited, code=killed, status=9/KILL")


def answer(changes: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the JSON of a host that is well; `changes` maps dotted paths."""
    manifest = RELEASE.manifest()
    found: dict[str, Any] = {
        "now": NOW,
        "host": {"hostname": "gpu-1", "pretty": "Debian 12", "kernel": "6.1.0-30-amd64", "uptime_s": 900_000.0},
        "resources": {"disk_free_mib": 500_000, "disk_total_mib": 900_000, "memory_mib": 256_000, "shm_mib": 128_000},
        "driver": {"loaded": DRIVER, "flavour": "open", "library": DRIVER, "nouveau": False, "runfile": False},
        "packages": {"installed": {"libcuda1": f"{DRIVER}-1"}, "held": ["libcuda1", "linux-image"], "pinned": True},
        "nvml": {"state": "ok", "driver": DRIVER, "cuda": "13.0", "gpus": [gpu(0)]},
        "reboot": {"required": False, "packages": [], "kernel": "", "module": None},
        "release": {
            **manifest,
            "verdict": "passed",
            "when": MADE,
            "since": NOW - 86_400 * 3,
            "missing": "",
            "edited": [],
        },
        "units": [],
        "instances": [instance()],
        "order": None,
        "lease": None,
        "last": {},
    }
    for path, value in (changes or {}).items():
        *parents, last = path.split(".")
        place: Any = found
        for name in parents:
            place = place[int(name) if isinstance(place, list) else name]
        place[int(last) if isinstance(place, list) else last] = value
    return found


def gpu(slot: int) -> dict[str, Any]:
    return {"index": slot, "uuid": uuid(slot), "address": address(slot), "memory_mib": CARDS["h100"][2]}


def unit(name: str = "tiny-0", **changes: Any) -> dict[str, Any]:
    """Return a unit that runs what is deployed."""
    running = {"name": name, "active": "active", "sub": "running", "enabled": True, "restarts": 0, "result": "success"}
    return {**running, "ended": "", "pid": 4711, "running_config": RELEASE.config_digest, **changes}


def instance(name: str = "tiny-0", **changes: Any) -> dict[str, Any]:
    """Return an instance that answered five tokens."""
    own = unit(name)
    passed = {"name": name, "failure": "", "what": "", "text": " a b c d e", "version": "0.32.0", "journal": []}
    return {
        "name": name,
        "unit": own,
        "up_s": 86_400 * 3.0,
        "stale": False,
        "foreign": [],
        "owed": False,
        "state": "ready",
        "healthy": True,
        "load": {"running": 2.0, "waiting": 0.0},
        "kv_tokens": 303_890,
        "journal": [],
        "gate": {**passed, "unit": own},
        **changes,
    }


def down(**changes: Any) -> dict[str, Any]:
    """Return an instance whose engine was killed and has not come back."""
    own = unit(active="failed", sub="failed", result="signal", ended="signal 9", pid=0, running_config="", **changes)
    return instance(unit=own, up_s=None, healthy=False, gate=None, journal=list(DIED), load={})


def seen(changes: Mapping[str, Any] | None = None) -> Seen:
    return parse(answer(changes), "rack1")


def standing(name: str = "rack1", changes: Mapping[str, Any] | None = None, **wished: Any) -> HostStanding:
    return judge(name, seen(changes), wished)


def router(name: str = "front1", **haproxy: Any) -> HostStanding:
    """Return a router that serves no model itself."""
    unit = {"active": "active", "enabled": True, **haproxy} if haproxy.get("active") != "" else None
    return judge(name, seen({"release": None, "instances": [], "haproxy": unit}), {}, router=True)
