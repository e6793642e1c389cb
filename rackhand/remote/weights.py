"""Bring weights onto the host: verified file by file, complete or absent, recorded with their checksums."""

from __future__ import annotations

import json
import os
import pwd
import re
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from rackhand.remote import command, files
from rackhand.remote.problem import Problem

RECORD = "rackhand.json"
LOG = "weights"
LISTING = "weights-listing"
# Formats that vLLM does not read where safetensors are there; they double the download.
# What the hub's client says, our code, what it means, what to do. The first that fits is told.
CAUSES = (
    (
        r"\b40[13] Client Error|GatedRepo|Invalid (user|credentials)",
        "model-access",
        "the hub refuses {hub_id}: the token lacks access, is wrong or is missing (or the name is wrong)",
        "accept the model's licence on the hub and check model_hub_token_from and model_hub_id, then run again",
    ),
    (
        r"\b404 Client Error|(Repository|Revision)NotFound",
        "model-missing",
        "the hub has no {hub_id} at revision {revision}",
        "check model_hub_id and model_revision, then run again",
    ),
    (
        r"No space left",
        "disk-full",
        "the disk filled up during the download",
        "free space on the host, then run again: it resumes",
    ),
)
IGNORED = ("original/*", "*.pth", "*.bin", "*.gguf", "*.msgpack", "*.h5")
# Asking for the list first makes the hub's refusals plain; snapshot_download passes over some in silence.
DOWNLOAD = (
    "import json,sys\n"
    "from huggingface_hub import HfApi,snapshot_download\n"
    "hub,revision,place,listing,*ignored=sys.argv[1:]\n"
    "tree=[f for f in HfApi().list_repo_tree(hub,revision=revision,recursive=True) if hasattr(f,'blob_id')]\n"
    "files=[{'path':f.path,'size':f.size,'sha256':f.lfs.sha256 if f.lfs else ''} for f in tree]\n"
    "open(listing,'w').write(json.dumps(files))\n"
    "snapshot_download(hub,revision=revision,local_dir=place,ignore_patterns=ignored)\n"
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
            f"{', '.join(wrong)} arrived damaged in {incoming}; nothing was put in place",
            "run again: only damaged files are sent again; a second damage points to the host's disk or memory",
        )
    _settle(incoming, Path(root, "models", model), wanted, source)


@command.alone(LOG)
def download(
    root: str, model: str, hub_id: str, revision: str, venv: str, environment: dict[str, str], timeout_s: int
) -> None:
    """Download a pinned revision with the environment's own huggingface_hub; tokens come in `environment` only."""
    incoming = Path(root, "incoming", model)
    incoming.mkdir(parents=True, exist_ok=True)
    listing = command.LOGS / f"{LISTING}.json"
    surroundings = {"HF_HOME": f"{root}/cache/hub", "HF_HUB_DISABLE_TELEMETRY": "1", **environment}
    python = f"{root}/venvs/{venv}/bin/python"
    arguments = [python, "-c", DOWNLOAD, hub_id, revision, str(incoming), str(listing), *IGNORED]
    status, lines = command.run(arguments, LOG, timeout_s, surroundings)
    if status:
        raise _explain(status, lines, hub_id, revision)
    found = _verified(incoming, json.loads(listing.read_text()), hub_id)
    files.remove_tree(incoming / ".cache")
    if not any(item["path"].endswith(".safetensors") for item in found):
        raise Problem(
            "model-incomplete",
            f"{hub_id}@{revision[:12]} holds no safetensors files",
            "choose a repository with safetensors weights",
        )
    _settle(incoming, Path(root, "models", model), found, f"{hub_id}@{revision}")


def _verified(incoming: Path, listing: list[dict[str, Any]], hub_id: str) -> list[dict[str, Any]]:
    """Hold what arrived against the hub's list: every size, and every checksum where the hub has one (large files)."""
    wanted = [item for item in listing if not any(fnmatch(item["path"], pattern) for pattern in IGNORED)]
    found, wrong = [], []
    for item in wanted:
        path = incoming / item["path"]
        size, digest = (path.stat().st_size, files.sha256(path)) if path.is_file() else (-1, "")
        found.append({"path": item["path"], "size": size, "sha256": digest})
        if size != item["size"] or digest != (item["sha256"] or digest):
            wrong.append(item["path"])
            path.unlink(missing_ok=True)
    if wrong:
        raise Problem(
            "model-checksum",
            f"{', '.join(wrong)} of {hub_id} is not what the hub lists; the damaged files were removed",
            "run again: only these are fetched again; a second damage points to the hub, a proxy or the disk",
        )
    return found


def _settle(incoming: Path, place: Path, listing: list[dict[str, Any]], source: str) -> None:
    for path in [incoming, *incoming.rglob("*")]:
        os.chown(path, 0, 0)
        path.chmod(0o755 if path.is_dir() else 0o644)
    record = {"source": source, "bytes": sum(item["size"] for item in listing), "files": listing}
    files.write(incoming / RECORD, json.dumps(record, indent=1, sort_keys=True))
    files.remove_tree(place)
    incoming.rename(place)


def _explain(status: int, lines: list[str], hub_id: str, revision: str) -> Problem:
    evidence = _exception(lines)
    if status == 124:
        next_step = "raise model_transfer_timeout_s, then run again: it resumes"
        return Problem("model-timeout", f"{hub_id} did not arrive in time", next_step, evidence)
    for pattern, code, what, next_step in CAUSES:
        if re.search(pattern, "\n".join(lines)):
            return Problem(code, what.format(hub_id=hub_id, revision=revision[:12]), next_step, evidence)
    said = evidence[0][:160] if evidence else f"status {status}"
    next_step = "check that the host reaches the hub (model_hub_endpoint), then run again: it resumes"
    return Problem("model-download", f"the download of {hub_id} failed: {said}", next_step, evidence)


def _exception(lines: list[str]) -> list[str]:
    """Return the last exception's own words, without the frames above it."""
    starts = [number for number, line in enumerate(lines) if re.match(r"[\w.]+(Error|Exception|Timeout)\b", line)]
    return lines[starts[-1] :][:6] if starts else lines[-4:]
