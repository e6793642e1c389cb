"""Prepare the host: the unprivileged service user, our directories, and the packages that vLLM needs."""

from __future__ import annotations

import subprocess
from pathlib import Path

from rackhand.remote import apt, command, driver_repair, packager

DIRECTORIES = {
    "": 0o755,
    "venvs": 0o755,
    "models": 0o755,
    "releases": 0o755,
    "cache": 0o755,
    "bin": 0o755,
    "incoming": 0o755,
    "pythons": 0o755,
}


@command.alone("packages")
def prepare(root: str, user: str, packages: list[str], timeout_s: int) -> None:
    """Create what is missing; packages are installed only when one is absent."""
    # The user comes after the directories, because the survey takes it for the sign that both are there.
    for name, mode in DIRECTORIES.items():
        path = Path(root, name)
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(mode)
    listing = subprocess.run(["getent", "passwd", user], capture_output=True, check=False)
    if listing.returncode:
        subprocess.run(
            [
                "useradd",
                "--system",
                "--user-group",
                "--no-create-home",
                "--home-dir",
                root,
                "--shell",
                "/usr/sbin/nologin",
                user,
            ],
            check=True,
        )
    if packages:
        driver_repair.finish(apt.wait_for_lock("packages-install", timeout_s))
        packager.install(packages, "packages", timeout_s)
