"""What one release has otherwise than another, for people. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any

from rackhand.outcome import Difference
from rackhand.shelf import Shelved

FIELDS = {
    "vLLM": "engine_version",
    "model": "served_name",
    "model revision": "model_revision",
    "environment": "venv",
    "driver": "driver",
    "address": "host",
}


def differences(before: Shelved | None, after: Shelved | None) -> tuple[Difference, ...]:
    """Compare two releases of one host, from the general to the single instance; nothing where one is missing."""
    if before is None or after is None or before.id == after.id:
        return ()
    old, new = dict(_facts(before)), dict(_facts(after))
    names = dict.fromkeys([*new, *old])
    changed = [name for name in names if old.get(name, "") != new.get(name, "")]
    return tuple(Difference(name=name, before=old.get(name, ""), after=new.get(name, "")) for name in changed)


def _facts(release: Shelved) -> Iterator[tuple[str, str]]:
    for name, field in FIELDS.items():
        yield name, str(getattr(release, field))
    for instance in release.instances:
        yield f"{instance.name}: port", str(instance.port)
        yield f"{instance.name}: GPUs", ", ".join(instance.gpus)
    for name, settings in release.settings.items():
        yield from ((f"{name}: {option}", _text(value)) for option, value in _sorted(settings))


def _sorted(settings: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return sorted(settings.items())


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
