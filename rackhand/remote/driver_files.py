"""The files with which the driver is kept from moving by itself: source, key, apt's pin and blacklist."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rackhand.remote import apt_sets, dnf_sets, dpkg, files
from rackhand.remote.problem import Problem

KEYRING = Path("/usr/share/keyrings/rackhand-nvidia.asc")
SOURCE = Path("/etc/apt/sources.list.d/rackhand-nvidia.sources")
RPM_KEY = Path("/etc/pki/rpm-gpg/RPM-GPG-KEY-rackhand-nvidia")
RPM_SOURCE = Path(f"/etc/yum.repos.d/{dnf_sets.REPOSITORY}.repo")
UNATTENDED = Path("/etc/apt/apt.conf.d/51rackhand-nvidia")
BLACKLIST = (
    *("^nvidia-", "^libnvidia-", "^libcuda", "^libnvcuvid", "^libnvoptix", "^libnvsdm"),
    *("^firmware-nvidia-", "^linux-modules-nvidia-", "^cuda-drivers"),
)
# A module that was built elsewhere fits one kernel: the kernel moves only with it.
KERNEL = ("^linux-image-", "^linux-headers-", "^linux-modules-", "^linux-generic")
PRECOMPILED = "linux-modules-nvidia-"
IMAGE = "linux-image-"
# Of what belongs to a driver, what carries the versions of kernels.
MODULES = ("linux-modules-nvidia-*", "linux-objects-nvidia-*", "linux-signatures-nvidia-*")
PRIORITY_ALLOWING_DOWNGRADE = 1001


def key_file() -> Path:
    """Return where the key of the driver's repository lies on this host."""
    return KEYRING if dpkg.rules() else RPM_KEY


def source_file() -> Path:
    """Return the file that names the driver's repository to the package manager of this host."""
    return SOURCE if dpkg.rules() else RPM_SOURCE


def source(repository_url: str) -> str:
    """Return the entry for a repository that our key signs; empty where the distribution's own are enough.

    dnf's is off, so that only we take from it, and says that no module stream is to hide any of its packages.
    """
    if not repository_url:
        return ""
    if not dpkg.rules():
        lines = [f"[{dnf_sets.REPOSITORY}]", "name=NVIDIA's driver, by rackhand", f"baseurl={repository_url}"]
        lines += ["enabled=0", "gpgcheck=1", f"gpgkey=file://{RPM_KEY}", "module_hotfixes=1", "metadata_expire=1"]
        return "".join(f"{line}\n" for line in lines)
    return f"Types: deb\nURIs: {repository_url}/\nSuites: /\nSigned-By: {KEYRING}\n"


def pin(patterns: Sequence[str], version: str) -> str:
    """Return apt's preferences that keep packages at one driver version, also against a newer one that is installed.

    Empty on hosts of dnf, whose version locks are enough.
    """
    if not dpkg.rules():
        return ""
    return f"Package: {' '.join(patterns)}\nPin: version {version}-*\nPin-Priority: {PRIORITY_ALLOWING_DOWNGRADE}\n"


def pinned() -> bool:
    """Say whether the driver of this host is in our keeping."""
    return (apt_sets.PIN if dpkg.rules() else RPM_SOURCE).exists()


def left(root: str = "/") -> list[str]:
    """Name the files of ours that are here and decide what the package manager does with a driver."""
    ours = (apt_sets.PIN, UNATTENDED, SOURCE, KEYRING, RPM_SOURCE, RPM_KEY)
    return [str(path) for path in ours if Path(root, *path.parts[1:]).exists()]


def unattended(members: Sequence[str]) -> str:
    """Return what keeps unattended-upgrades away from the driver, and from the kernel where the module needs that."""
    patterns = (*BLACKLIST, *(KERNEL if precompiled(members) else ()))
    entries = "".join(f'  "{pattern}";\n' for pattern in patterns)
    why = "// written by rackhand: the driver changes only with a deploy"
    return f"{why}\nUnattended-Upgrade::Package-Blacklist {{\n{entries}}};\n"


def holds(members: Sequence[str], installed: Sequence[str]) -> list[str]:
    """Name what goes on hold: every member, and beside modules that were built elsewhere every kernel's meta packages.

    Whichever of those brought a newer kernel (linux-generic, linux-image-generic, linux-headers-generic), it would boot
    next, and without a module.
    """
    kinds = [name[len(IMAGE) :] for name in installed if name.startswith(IMAGE)] if precompiled(members) else []
    metas = [
        name
        for kind in kinds
        if not kind.startswith("unsigned-") and not kind[:1].isdigit()
        for name in (f"linux-{kind}", f"{IMAGE}{kind}", f"linux-headers-{kind}")
    ]
    return sorted({*members, *(name for name in metas if name in installed)})


def precompiled(members: Sequence[str]) -> list[str]:
    """Name the members that are kernel modules built elsewhere."""
    return [name for name in members if name.startswith(PRECOMPILED)]


def wanted(found: Mapping[str, Any]) -> dict[Path, str]:
    """Return the files that a set of packages has around it; an empty text is no file."""
    trusted = {key_file(): found["key"], source_file(): found["source"]}
    if not dpkg.rules():
        return trusted
    return {**trusted, apt_sets.PIN: found["pin"], UNATTENDED: unattended(sorted(found["members"]))}


def place(path: Path, text: str) -> None:
    """Have a file with this text, and none for an empty one."""
    if text:
        files.write(path, text)
    else:
        path.unlink(missing_ok=True)


def read(path: Path) -> str:
    """Return a file's text; empty where there is none."""
    try:
        return path.read_text()
    except OSError:
        return ""


@contextlib.contextmanager
def as_before_on_failure(*paths: Path) -> Iterator[None]:
    """Put files back when the body fails: a source that apt refuses would break every later apt-get update."""
    before = {path: read(path) for path in paths}
    try:
        yield
    except Problem:
        for path, text in before.items():
            place(path, text)
        raise
