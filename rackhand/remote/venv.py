"""Build vLLM's environment with uv from hashed requirements; complete or absent, and never changed afterwards."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from pathlib import Path

from rackhand.remote import command, files
from rackhand.remote.problem import Problem

RECORD = "rackhand.json"
LOG = "venv"
# What uv says, our code, what it means, what to do. The first that fits is told; `{}` is the pattern's group.
CAUSES = (
    (
        r"No space left",
        "disk-full",
        "the disk filled up while the environment was built",
        "free space on the host, then run again",
    ),
    (
        r"Hash mismatch for `?([^\s`]+)|hashes? (?:do not|does not|must)|no matching hash",
        "package-hash",
        "a package from the index is not the one that the requirements lock: {}; nothing was installed",
        "find out why the index has another file; lock the requirements again only when you trust it",
    ),
    (
        r"No interpreter found|python-build-standalone|Python \S+ not found|No download found",
        "python-missing",
        "Python {python} is neither on the host nor can uv download it",
        "install python{python} on the host, or set engine_python to one that is there",
    ),
    (
        r"(?:Failed to fetch:|request for url \(|--find-links` URL:|Failed to download) ?`?([^\s`)]+)"
        r"|dns error|could not connect|timed out|Failed to fetch|connection|error decoding response body",
        "package-index",
        "the package index went away or cannot be reached: {}",
        "check the host's network and the index in engine_uv_env, then run again",
    ),
)


@command.alone(LOG)
def build(
    root: str, digest: str, requirements: str, python: str, uv: str, environment: dict[str, str], timeout_s: int
) -> dict[str, object]:
    """Build venvs/<digest> unless its record says that it is complete; return the record.

    Raises Problem: package-index, package-hash, python-missing, disk-full, venv-failed.
    """
    place = Path(root, "venvs", digest)
    if (place / RECORD).exists():
        return dict(json.loads((place / RECORD).read_text()))
    files.remove_tree(place)
    started = time.monotonic()
    lock = Path(root, "venvs", f"{digest}.txt")
    files.write(lock, requirements)
    places = {"UV_CACHE_DIR": f"{root}/cache/uv", "UV_PYTHON_INSTALL_DIR": f"{root}/pythons"}
    for step in _steps(f"{root}/bin/{uv}", python, place, lock):
        status, lines = command.run(step, LOG, timeout_s, {**places, "UV_NO_PROGRESS": "0", **environment})
        if status:
            raise _explain(status, lines, python)
    record = {
        "digest": digest,
        "vllm": _version(place),
        "python": python,
        "seconds": round(time.monotonic() - started, 1),
    }
    files.write(place / RECORD, json.dumps(record, indent=1, sort_keys=True))
    return record


def _steps(uv: str, python: str, place: Path, lock: Path) -> tuple[list[str], list[str]]:
    inside = ["--python", f"{place}/bin/python"]
    return (
        [uv, "venv", "--no-project", "--python", python, str(place)],
        [uv, "pip", "sync", "--require-hashes", "--compile-bytecode", *inside, str(lock)],
    )


def _version(place: Path) -> str:
    question = "import importlib.metadata as m; print(m.version('vllm'))"
    answer = subprocess.run([f"{place}/bin/python", "-c", question], capture_output=True, text=True, check=False)
    if answer.returncode:
        raise Problem(
            "venv-failed",
            "the requirements hold no distribution named vllm",
            "check engine_requirements",
            answer.stderr.splitlines()[-2:],
        )
    return answer.stdout.strip()


def _explain(status: int, lines: list[str], python: str) -> Problem:
    text = "\n".join(lines)
    evidence = [line for line in lines if line.strip()][-6:]
    if status == 124:
        return Problem(
            "venv-timeout",
            "uv did not finish in time and was stopped",
            f"look at {command.LOGS}/{LOG}.log on the host; raise engine_build_timeout_s, then run again",
            evidence,
        )
    for pattern, code, what, next_step in CAUSES:
        found = re.search(pattern, text, re.IGNORECASE)
        if found:
            detail = next((group for group in found.groups() if group), "see below")
            return Problem(code, what.format(detail, python=python), next_step.format(python=python), evidence)
    next_step = f"look at {command.LOGS}/{LOG}.log on the host, then run again"
    return Problem("venv-failed", f"uv ended with status {status}", next_step, evidence)


def accept_uv(root: str, name: str, sha256: str) -> None:
    """Move an uploaded uv program into bin/ after checking its checksum."""
    uploaded = Path(root, "incoming", "uv", name)
    if files.sha256(uploaded) != sha256:
        raise Problem("upload", "uv arrived damaged", "run again")
    uploaded.chmod(0o755)
    shutil.chown(uploaded, "root", "root")
    uploaded.rename(Path(root, "bin", name))
