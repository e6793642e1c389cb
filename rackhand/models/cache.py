"""What hubs said about models, kept on this machine: one JSON file for a revision, beside the checksums of weights."""

import json
import os
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rackhand.models.hub import Place, Snapshot
from rackhand.models.tensors import Tensor
from rackhand.weights import HASHES

ROOT = HASHES.parent / "hub"
COMMIT = re.compile(r"[0-9a-f]{40}")


def pinned(revision: str) -> bool:
    """Say whether a revision is a commit, whose files never change."""
    return COMMIT.fullmatch(revision) is not None


def load(place: Place, root: Path | None = None) -> Snapshot | None:
    """Return what was kept of a revision; None when there is nothing usable."""
    try:
        kept = json.loads(_file(place, place.revision, root).read_text())
        return _snapshot(kept)
    except (OSError, ValueError, TypeError, KeyError):
        return None


def save(place: Place, found: Snapshot, root: Path | None = None) -> None:
    """Keep a snapshot under the wished revision and its commit; a cache that cannot be written only costs time."""
    text = json.dumps(asdict(found))
    for revision in {place.revision, found.commit}:
        path = _file(place, revision, root)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_suffix(f".{os.getpid()}")
            temporary.write_text(text)
            temporary.replace(path)
        except OSError:
            return


def _file(place: Place, revision: str, root: Path | None) -> Path:
    safe = re.sub(r"[^\w.-]", "_", revision)
    return (root or ROOT) / place.hub_id.replace("/", "--") / f"{safe}.json"


def _snapshot(kept: dict[str, Any]) -> Snapshot:
    tensors = kept["tensors"]
    if tensors is not None:
        tensors = {name: Tensor(entry[0], tuple(entry[1]), entry[2]) for name, entry in tensors.items()}
    return Snapshot(**{**kept, "tensors": tensors, "names": tuple(kept["names"])})
