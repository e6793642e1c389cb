"""models.yaml: models that people serve, by exact hub id and revision, with the numbers of their config.json."""

import difflib
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from rackhand.catalog.book import HERE, Book, Entry, read
from rackhand.errors import RackhandError


class BytesFrom(StrEnum):
    """How the weight bytes are known: the index's total_size or file sizes, or shapes and stored width."""

    INDEX = "index"
    COMPUTED = "computed"


class ModelRow(Entry):
    """One model at one revision; `weight_bytes` are those that the engine loads, `config` has config.json's own keys.

    `gated`: the hub asks for a token whose owner accepted the licence, or has asked for one. `trust_remote_code`: vLLM
    needs the repository's own Python. `quantize_config` is the file beside a config.json that says nothing of it.
    """

    id: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")]
    hub_id: Annotated[str, Field(pattern=r"^[\w.-]+/[\w.-]+$")]
    revision: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]
    parameters: Annotated[int, Field(gt=0)]
    weight_bytes: Annotated[int, Field(gt=0)]
    bytes_from: BytesFrom
    gated: bool = False
    trust_remote_code: bool = False
    config: dict[str, Any]
    quantize_config: dict[str, Any] | None = None


class ModelBook(Book):
    """The whole file, one family after the other."""

    models: Annotated[tuple[ModelRow, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _each_id_once(self) -> Self:
        ids = [row.id for row in self.models]
        if twice := sorted({name for name in ids if ids.count(name) > 1}):
            raise ValueError(f"id in two rows: {', '.join(twice)}")
        return self


@cache
def model_book(extra: Path | None = None) -> tuple[ModelRow, ...]:
    """Return the checked rows; those of the user's own file `extra` (same form) come first and win over equal ids.

    Raises RackhandError `catalog` that names every bad key.
    """
    ours = read(ModelBook, HERE / "models.yaml").models
    theirs = read(ModelBook, extra).models if extra else ()
    taken = {row.id for row in theirs}
    return (*theirs, *(row for row in ours if row.id not in taken))


def model(name: str, extra: Path | None = None, where: str = "model") -> ModelRow:
    """Find a model by its short id or its hub id, in any case.

    Raises RackhandError `unknown-model` with the nearest ids.
    """
    wanted = name.strip().lower()
    for row in model_book(extra):
        if wanted in (row.id, row.hub_id.lower()):
            return row
    raise RackhandError("unknown-model", f"the catalogue has no model '{name.strip()}'", where, _near(wanted, extra))


def _near(wanted: str, extra: Path | None) -> str:
    ids = [row.id for row in model_book(extra)]
    short = wanted.rpartition("/")[2]
    inside = [name for name in ids if len(short) > 1 and short in name]
    near = inside or difflib.get_close_matches(short, ids, n=4)
    if near:
        return f"did you mean {', '.join(near[:4])}?"
    return "name a directory, a hub id (owner/name), or an id of models.yaml, for instance llama-3.1-8b-instruct"
