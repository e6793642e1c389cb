"""A release as a host describes it (the answer of rackhand.remote.shelf), as frozen and validated data."""

from datetime import UTC, datetime
from typing import Any

from pydantic import Field

from rackhand.frozen import Frozen


class ShelvedInstance(Frozen):
    """One vLLM server of a release; `config` is the digest of all that its process depends on."""

    name: str
    port: int
    gpus: tuple[str, ...]
    config: str
    max_model_len: int | None = None
    starts_after: str | None = None


class Shelved(Frozen):
    """One release on a host: its manifest, its last verdict ("passed", "failed" or empty) and when that was.

    `run` is the run that gave it, `back` is how the host went back to the
    release then: by a "rollback", or in its "turn" when another failed; empty where it did not.
    `when` is in seconds since the epoch, `start_s` how long each engine took from its start to its first answer.
    `missing` names what it would need and is not on the host, empty for a release that is complete. `edited` are files
    that are not as they were placed, None where nobody wrote down how that was.
    """

    id: str
    engine_version: str
    venv: str
    model: str
    model_revision: str = ""
    driver: str
    served_name: str
    unit_sha256: str = ""
    host: str = "127.0.0.1"
    start_timeout_s: int = 900
    request_timeout_s: int = 60
    instances: tuple[ShelvedInstance, ...]
    settings: dict[str, dict[str, Any]] = Field(default_factory=dict)
    verdict: str = ""
    run: str = ""
    back: str = ""
    when: float = 0.0
    start_s: dict[str, float | None] = Field(default_factory=dict)
    missing: str = ""
    edited: tuple[str, ...] | None = None

    @property
    def date(self) -> str:
        """Say in UTC when it was used last."""
        return utc(self.when)


def utc(when: float) -> str:
    """Write a moment as people read it, in UTC; empty where nobody knows it."""
    return f"{datetime.fromtimestamp(when, UTC):%Y-%m-%d %H:%M}" if when else ""
