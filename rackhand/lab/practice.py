"""What the practice fleet's inventory knows and a real one states: mirror, key, model, and where uv finds packages."""

from pathlib import Path
from typing import Any

from rackhand.lab import driver_repo, tiny_model, wheels
from rackhand.lab.environment import uv_environment
from rackhand.lab.fleet import Fleet

CHECKOUT = Path(__file__).resolve().parents[2]
DISTRIBUTION = "debian12"


def data(first: str, fleet: Fleet | None = None) -> dict[str, Any]:
    """Return the host data that all practice hosts share; `first` is the name of any one of them.

    Builds what is missing: the tiny model, the wheels that no index has, the emulated driver repository.
    """
    chosen = fleet or Fleet.of(CHECKOUT)
    url = chosen.reserve(first).repository_url
    wheels.build(chosen.places.www / "wheels")
    model = tiny_model.build(chosen.places.root / "models" / "tiny")
    environment = uv_environment()
    links = [link for link in environment.get("UV_FIND_LINKS", "").split(",") if link]
    return {
        "driver_repository_url": f"{url}/driver/{DISTRIBUTION}/{driver_repo.ARCHITECTURE}",
        "driver_key_fingerprint": driver_repo.fingerprint(driver_repo.build()),
        "engine_uv_env": {**environment, "UV_FIND_LINKS": ",".join([*links, f"{url}/wheels/"])},
        "model_path": str(model),
    }
