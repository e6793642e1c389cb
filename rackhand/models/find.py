"""Find a model's spec."""

import json
from pathlib import Path

from pydantic import SecretStr

from rackhand.errors import RackhandError
from rackhand.models.config import spec_from_config
from rackhand.models.spec import ModelSpec


def find(
    model: str, *, revision: str | None = None, endpoint: str | None = None, token: SecretStr | None = None
) -> ModelSpec:
    """Return the spec of a directory."""
    path = Path(model) / "config.json"
    if not path.is_file():
        raise RackhandError("model-unsupported", "only directories are known", model, "give a directory")
    return spec_from_config(json.loads(path.read_text()), model)
