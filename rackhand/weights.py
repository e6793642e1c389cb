"""Describe a model directory on this machine: every file with its checksum."""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

from rackhand.errors import RackhandError
from rackhand.survey import ModelFile

HASHES = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "rackhand" / "sha256.json"
SUMS = "SHA256SUMS"


@dataclass(frozen=True, kw_only=True)
class Weights:
    """The weights of one model: `id` names their directory on a host; `files` is empty for a hub model not seen yet."""

    id: str
    name: str
    revision: str
    source: str
    directory: Path | None
    files: tuple[ModelFile, ...]

    @property
    def weight_bytes(self) -> int:
        return sum(file.size for file in self.files if file.path.endswith(".safetensors"))

    @property
    def total_bytes(self) -> int:
        return sum(file.size for file in self.files)


def local(directory: Path, name: str, revision: str | None) -> Weights:
    """Hash a model directory (cached by size and time) and check it against SHA256SUMS and the wished revision.

    Raises RackhandError `model-missing`, `model-checksum` or `model-config`.
    """
    if not (directory / "config.json").is_file():
        what = "config.json is missing" if directory.is_dir() else "this machine has no such directory"
        raise _missing(directory, f"no model here: {what}", "a downloaded model")
    _check_config(directory)
    files = _files(directory)
    if not any(file.path.endswith(".safetensors") for file in files):
        raise _missing(directory, "no *.safetensors files here", "safetensors weights")
    _check_sums(directory, files)
    digest = hashlib.sha256("\n".join(f"{file.path} {file.sha256}" for file in files).encode()).hexdigest()
    if revision and not digest.startswith(revision):
        what = f"the files have digest {digest[:12]}, model_revision says {revision[:12]}"
        raise RackhandError("model-checksum", what, str(directory), "restore the model or correct model_revision")
    return Weights(
        id=f"{name}@{digest[:12]}",
        name=name,
        revision=digest,
        source=f"path:{directory.name}",
        directory=directory,
        files=files,
    )


def hub(hub_id: str, name: str, revision: str) -> Weights:
    """Name the weights of a pinned hub revision; their size is known once they are on a host."""
    return Weights(
        id=f"{name}@{revision[:12]}",
        name=name,
        revision=revision,
        source=f"{hub_id}@{revision}",
        directory=None,
        files=(),
    )


def _missing(directory: Path, what: str, wanted: str) -> RackhandError:
    return RackhandError("model-missing", what, str(directory), f"set model_path to a directory with {wanted}")


def _files(directory: Path) -> tuple[ModelFile, ...]:
    """Describe every file that is not hidden, in order of its path."""
    cache = _read_cache()
    paths = [path for path in directory.rglob("*") if path.is_file() and not _hidden(path.relative_to(directory))]
    try:
        files = tuple(_describe(path, directory, cache) for path in sorted(paths))
    except OSError as error:
        what = f"cannot read {error.filename} ({error.strerror})"
        raise RackhandError("model-missing", what, str(directory), "make the files readable for you") from None
    _write_cache(cache)
    return files


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _describe(path: Path, directory: Path, cache: dict[str, str]) -> ModelFile:
    status = path.stat()
    key = f"{path.resolve()}|{status.st_size}|{status.st_mtime_ns}"
    if key not in cache:
        with path.open("rb") as stream:
            cache[key] = hashlib.file_digest(stream, "sha256").hexdigest()
    return ModelFile(path=str(path.relative_to(directory)), size=status.st_size, sha256=cache[key])


def _check_sums(directory: Path, files: tuple[ModelFile, ...]) -> None:
    """Hold the files against a SHA256SUMS file, where the model comes with one."""
    sums = directory / SUMS
    if not sums.is_file():
        return
    expected = {
        parts[1].lstrip("*").removeprefix("./"): parts[0].lower()
        for line in sums.read_text().splitlines()
        if not line.startswith("#") and len(parts := line.split(maxsplit=1)) == 2
    }
    actual = {file.path: file.sha256 for file in files}
    wrong = sorted(name for name, digest in expected.items() if actual.get(name) != digest)
    if wrong:
        raise RackhandError(
            "model-checksum",
            f"{', '.join(wrong)} differ from {SUMS} or are missing",
            str(directory),
            "download the model again",
        )


def _check_config(directory: Path) -> None:
    try:
        value = json.loads((directory / "config.json").read_text())
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise RackhandError(
            "model-config", "config.json is not a JSON object", str(directory), "download the model again"
        )


def _read_cache() -> dict[str, str]:
    try:
        found = json.loads(HASHES.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _write_cache(cache: dict[str, str]) -> None:
    try:
        HASHES.parent.mkdir(parents=True, exist_ok=True)
        temporary = HASHES.with_suffix(f".{os.getpid()}")
        temporary.write_text(json.dumps(cache))
        temporary.replace(HASHES)
    except OSError:
        return  # a cache that cannot be written only costs time
