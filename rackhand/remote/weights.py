"""Bring weights onto the host: verified file by file, complete or absent, recorded with their checksums."""

from __future__ import annotations

import json
import os
import pwd
from pathlib import Path
from typing import Any

from rackhand.remote import command, files
from rackhand.remote.problem import Problem

RECORD = "rackhand.json"
LOG = "weights"
DOWNLOAD = (
    "import os,sys\n"
    "from huggingface_hub import snapshot_download\n"
    "snapshot_download(sys.argv[1],revision=sys.argv[2],local_dir=sys.argv[3],"
    "ignore_patterns=['original/*','*.pth','*.bin','*.gguf','*.msgpack','*.h5'])\n"
)


def open_incoming(root: str, model: str, wanted: list[dict[str, Any]]) -> dict[str, Any]:
    """Make the folder that uploads go to, writable by the login user, and say which files are still missing."""
    place = Path(root, "incoming", model)
    login = os.environ.get("SUDO_USER", "root")
    account = pwd.getpwnam(login)
    missing = []
    for item in wanted:
        path = place / item["path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        if not (path.is_file() and path.stat().st_size == item["size"] and files.sha256(path) == item["sha256"]):
            missing.append(item["path"])
    for folder in [place, *(path for path in place.rglob("*") if path.is_dir())]:
        os.chown(folder, account.pw_uid, account.pw_gid)
    return {"place": str(place), "missing": missing}


def accept(root: str, model: str, wanted: list[dict[str, Any]], source: str) -> None:
    """Check every uploaded file against its checksum and move the whole model into place.

    Raises Problem `model-checksum` naming the files that differ; nothing is moved then.
    """
    incoming = Path(root, "incoming", model)
    wrong = [
        item["path"]
        for item in wanted
        if not (incoming / item["path"]).is_file() or files.sha256(incoming / item["path"]) != item["sha256"]
    ]
    if wrong:
        raise Problem(
            "model-checksum",
            f"{', '.join(wrong)} arrived damaged",
            "run again; a second damage points to the disk or the network",
        )
    _settle(incoming, Path(root, "models", model), wanted, source)


@command.alone(LOG)
def download(
    root: str, model: str, hub_id: str, revision: str, venv: str, environment: dict[str, str], timeout_s: int
) -> None:
    """Download a pinned revision with the environment's own huggingface_hub; tokens come in `environment` only."""
    incoming = Path(root, "incoming", model)
    incoming.mkdir(parents=True, exist_ok=True)
    surroundings = {"HF_HOME": f"{root}/cache/hub", "HF_HUB_DISABLE_TELEMETRY": "1", **environment}
    arguments = [f"{root}/venvs/{venv}/bin/python", "-c", DOWNLOAD, hub_id, revision, str(incoming)]
    status, lines = command.run(arguments, LOG, timeout_s, surroundings)
    if status:
        raise _explain(status, lines, hub_id, revision)
    files.remove_tree(incoming / ".cache")
    found = sorted(path for path in incoming.rglob("*") if path.is_file())
    listing: list[dict[str, Any]] = [
        {"path": str(path.relative_to(incoming)), "size": path.stat().st_size, "sha256": files.sha256(path)}
        for path in found
    ]
    if not any(item["path"].endswith(".safetensors") for item in listing):
        raise Problem(
            "model-incomplete",
            f"{hub_id}@{revision[:12]} holds no safetensors files",
            "choose a repository with safetensors weights",
        )
    _settle(incoming, Path(root, "models", model), listing, f"{hub_id}@{revision}")


def _settle(incoming: Path, place: Path, listing: list[dict[str, Any]], source: str) -> None:
    for path in [incoming, *incoming.rglob("*")]:
        os.chown(path, 0, 0)
        path.chmod(0o755 if path.is_dir() else 0o644)
    record = {"source": source, "bytes": sum(item["size"] for item in listing), "files": listing}
    files.write(incoming / RECORD, json.dumps(record, indent=1, sort_keys=True))
    files.remove_tree(place)
    incoming.rename(place)


def _explain(status: int, lines: list[str], hub_id: str, revision: str) -> Problem:
    text = "\n".join(lines)
    evidence = lines[-4:]
    if status == 124:
        return Problem(
            "model-timeout",
            f"{hub_id} did not arrive in time",
            "raise model_transfer_timeout_s, then run again: it resumes",
            evidence,
        )
    if "401" in text or "403" in text or "GatedRepo" in text:
        return Problem(
            "model-access",
            f"the hub refused access to {hub_id}",
            "accept the model's licence and set model_hub_token_from",
            evidence,
        )
    if "RepositoryNotFound" in text or "RevisionNotFound" in text or "404" in text:
        return Problem(
            "model-missing",
            f"the hub has no {hub_id} at {revision[:12]}",
            "check model_hub_id and model_revision",
            evidence,
        )
    if "No space left" in text:
        return Problem(
            "disk-full",
            "the disk filled up during the download",
            "free space on the host, then run again: it resumes",
            evidence,
        )
    return Problem(
        "model-download",
        f"the download of {hub_id} failed",
        "check the host's network, then run again: it resumes",
        evidence,
    )
