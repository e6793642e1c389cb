"""Write files so that a reader sees the old or the new content, never half of it, and record what was done."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any


def write(path: Path, content: str | bytes, mode: int = 0o644) -> bool:
    """Replace `path` atomically with its final mode from the first byte; return whether anything changed."""
    data = content.encode() if isinstance(content, str) else content
    if path.is_file() and not path.is_symlink() and path.read_bytes() == data and path.stat().st_mode & 0o777 == mode:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.rackhand-new")
    temporary.unlink(missing_ok=True)
    try:
        _write_new(temporary, data, mode)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return True


def _write_new(path: Path, data: bytes, mode: int) -> None:
    """Write a file that nobody else can have opened before, because it may be a secret."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        os.fchmod(stream.fileno(), mode)
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def link(path: Path, target: str) -> bool:
    """Point the symlink `path` to `target` in one rename; return whether it changed."""
    if path.is_symlink() and str(path.readlink()) == target:
        return False
    temporary = path.with_name(f".{path.name}.rackhand-new")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    temporary.replace(path)
    return True


def settle(folder: Path) -> None:
    """Make the names in a directory survive a power cut; what is written in place of a file is safe only then."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_tree(path: Path) -> None:
    """Delete a directory of ours; a missing one is fine."""
    if path.exists():
        shutil.rmtree(path)


def sha256(path: Path) -> str:
    """Hash a file without holding it in memory."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        for chunk in iter(lambda: stream.read(1 << 22), b""):
            digest.update(chunk)
    return digest.hexdigest()


def record(root: str, entry: dict[str, Any]) -> None:
    """Append one line to the ledger; never with secrets, because callers pass names, digests and verdicts only."""
    base = Path(root)
    base.mkdir(parents=True, exist_ok=True)
    line = json.dumps({"time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), **entry}, sort_keys=True)
    descriptor = os.open(base / "ledger.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
    with os.fdopen(descriptor, "w") as stream:
        stream.write(line + "\n")
