"""How a catalogue file is read: YAML, no unknown keys, and every entry names its sources."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from rackhand.errors import RackhandError

HERE = Path(__file__).parent
# The same loader in C, where PyYAML was built with it: ten times as fast.
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Entry(BaseModel):
    """One fact; `source` holds keys of the file's table of sources."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: Annotated[tuple[str, ...], Field(min_length=1)]


class Book(BaseModel):
    """One file: a table of sources, and entries that refer to it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sources: dict[str, Annotated[str, Field(min_length=1)]]

    @model_validator(mode="after")
    def _sources_exist_and_are_used(self) -> Self:
        named = {source for entry in self.entries() for source in entry.source}
        if unknown := sorted(named - self.sources.keys()):
            raise ValueError(f"source not in the table of sources: {', '.join(unknown)}")
        if unused := sorted(self.sources.keys() - named):
            raise ValueError(f"source that no entry names: {', '.join(unused)}")
        return self

    def entries(self) -> Iterator[Entry]:
        """Yield every entry of every list and table in the file."""
        for name in type(self).model_fields:
            value = getattr(self, name)
            members = value.values() if isinstance(value, dict) else value
            yield from (member for member in members if isinstance(member, Entry))


AnyBook = TypeVar("AnyBook", bound=Book)


def read(kind: type[AnyBook], path: Path) -> AnyBook:
    """Read and check one file; raises RackhandError `catalog` that names every bad key."""
    try:
        raw: Any = yaml.load(path.read_text(encoding="utf-8"), Loader=LOADER)
        return kind.model_validate(raw)
    except yaml.YAMLError as error:
        what = f"not YAML: {' '.join(str(error).split())}"
    except ValidationError as error:
        what = "; ".join(
            f"{'.'.join(str(part) for part in detail['loc'])}: {detail['msg']}".lstrip(": ")
            for detail in error.errors(include_url=False)
        )
    raise RackhandError("catalog", what, str(path), "correct these keys of the file")
