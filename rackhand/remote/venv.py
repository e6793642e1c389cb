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
    binary = str(Path(root, "bin", uv))
    surroundings = {
        "UV_CACHE_DIR": f"{root}/cache/uv",
        "UV_PYTHON_INSTALL_DIR": f"{root}/pythons",
        "UV_NO_PROGRESS": "0",
        **environment,
    }
    steps = (
        [binary, "venv", "--no-project", "--python", python, str(place)],
        [binary, "pip", "sync", "--require-hashes", "--compile-bytecode", "--python", f"{place}/bin/python", str(lock)],
    )
    for step in steps:
        status, lines = command.run(step, LOG, timeout_s, surroundings)
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
            "uv did not finish in time",
            "raise engine_build_timeout_s or look at /var/log/rackhand/venv.log",
            evidence,
        )
    if "No space left" in text:
        return Problem(
            "disk-full",
            "the disk filled up while the environment was built",
            "free space on the host, then run again",
            evidence,
        )
    if "Hash mismatch" in text or "hashes" in text:
        return Problem(
            "package-hash",
            "a downloaded package does not match its hash in the requirements",
            "do not install it; compare the lock with the index",
            evidence,
        )
    if re.search(r"No interpreter found|python-build-standalone|Python .* not found|No download found", text):
        return Problem(
            "python-missing",
            f"Python {python} is neither on the host nor downloadable",
            f"install python{python} on the host or set engine_python",
            evidence,
        )
    if re.search(
        r"error sending request|dns error|Could not connect|timed out|Failed to fetch|connection", text, re.IGNORECASE
    ):
        return Problem(
            "package-index",
            "the package index could not be reached",
            "check the host's network or engine_uv_env, then run again",
            evidence,
        )
    return Problem(
        "venv-failed", f"uv ended with status {status}", "look at /var/log/rackhand/venv.log on the host", evidence
    )


def accept_uv(root: str, name: str, sha256: str) -> None:
    """Move an uploaded uv program into bin/ after checking its checksum."""
    uploaded = Path(root, "incoming", "uv", name)
    if files.sha256(uploaded) != sha256:
        raise Problem("upload", "uv arrived damaged", "run again")
    uploaded.chmod(0o755)
    shutil.chown(uploaded, "root", "root")
    uploaded.rename(Path(root, "bin", name))
