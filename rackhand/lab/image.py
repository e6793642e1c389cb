"""Base images of practice hosts: built once by mmdebstrap, shared by every host and checkout."""

import hashlib
import os
import re
import shutil
from pathlib import Path

from rackhand.lab import lock, places, shell

PACKAGES = (
    # an ordinary server
    *("systemd", "systemd-sysv", "dbus", "openssh-server", "python3", "iproute2", "sudo", "ca-certificates", "curl"),
    *("procps", "pciutils", "util-linux", "kmod", "less", "gpgv", "xz-utils"),
    # what an engine needs to compile and to run
    *("gcc", "g++", "libc6-dev", "python3-dev", "libnuma1"),
)
# Nobody logs in at a console here, and the apt timers would hold the lock of a host that was just booted.
MASKED = (
    *("getty.target", "getty@.service", "console-getty.service"),
    *("apt-daily.timer", "apt-daily.service", "apt-daily-upgrade.timer", "apt-daily-upgrade.service"),
    *("dpkg-db-backup.timer", "e2scrub_all.timer", "e2scrub_reap.service", "fstrim.timer", "motd-news.timer"),
    *("systemd-tmpfiles-clean.timer", "systemd-update-utmp.service", "systemd-update-utmp-runlevel.service"),
    *("systemd-journal-catalog-update.service", "systemd-hwdb-update.service", "systemd-update-done.service"),
)
FINISH = f"""
set -eu
cd "$1"
rm -f etc/ssh/ssh_host_* etc/machine-id var/lib/dbus/machine-id etc/resolv.conf etc/hostname
mkdir -p var/log/journal root/.ssh
: >etc/fstab
echo LANG=C.UTF-8 >etc/default/locale
cd etc/systemd/system
ln -sf /lib/systemd/system/multi-user.target default.target
for unit in {" ".join(MASKED)}; do ln -sf /dev/null $unit; done
"""
BUILD_TIMEOUT_S = 1200


def ensure(suite: str) -> Path:
    """Return the root directory of the cached image of a Debian or Ubuntu `suite`, building it at the first call."""
    sources = _outer_sources(suite)
    key = hashlib.sha256(repr((suite, PACKAGES, FINISH, sources)).encode()).hexdigest()[:12]
    image = places.cache() / "images" / f"{suite}-{key}"
    if image.is_dir():
        return image
    with lock.exclusive(places.locks() / f"image-{image.name}.lock", BUILD_TIMEOUT_S):
        if not image.is_dir():
            _build(suite, sources, image)
    return image


def _build(suite: str, sources: str, image: Path) -> None:
    """Build beside the final place and rename, so that an image is either whole or absent."""
    for stale in image.parent.glob(f"{image.name}.draft-*"):
        shutil.rmtree(stale, ignore_errors=True)
    # A name of its own, because the mmdebstrap of a builder that was killed may still be writing to its draft.
    draft = image.with_name(f"{image.name}.draft-{os.getpid()}")
    draft.parent.mkdir(parents=True, exist_ok=True)
    places.say(f"building the {suite} base image, once: about a minute")
    options = ["--variant=minbase", "--mode=root", f"--include={','.join(PACKAGES)}"]
    options += ["--dpkgopt=path-exclude=/usr/share/man/*", "--dpkgopt=path-exclude=/usr/share/locale/*"]
    options += ["--dpkgopt=path-exclude=/usr/share/doc/*", '--aptopt=Acquire::Languages "none"']
    options += [f"--customize-hook={FINISH}"]
    mirror = ["-"] if sources else []
    argv = ["mmdebstrap", "--quiet", *options, suite, str(draft), *mirror]
    try:
        shell.run(argv, stdin=sources or None, timeout_s=BUILD_TIMEOUT_S)
        draft.rename(image)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _outer_sources(suite: str) -> str:
    """Return the outer machine's own package sources of `suite`, or nothing: then mmdebstrap takes its defaults."""
    folder = Path("/etc/apt/sources.list.d")
    for files, separator in (
        (sorted(folder.glob("*.sources")), "\n\n"),
        ([Path("/etc/apt/sources.list"), *sorted(folder.glob("*.list"))], "\n"),
    ):
        entries = [entry for file in files if file.is_file() for entry in _uncommented(file).split(separator)]
        kept = [entry.strip() for entry in entries if _is_distribution(entry, suite)]
        if kept:
            return separator.join(kept) + "\n"
    return ""


def _is_distribution(entry: str, suite: str) -> bool:
    """Tell the distribution's own archive from third parties that use the same suite names."""
    words = set(entry.split())
    signed_by_others = "signed-by" in entry.lower() and not re.search("(debian|ubuntu)-archive-keyring", entry)
    binary = not entry.lstrip().startswith("deb-src")
    return (
        binary
        and not signed_by_others
        and "main" in words
        and bool(words & {suite, f"{suite}-updates", f"{suite}-security"})
    )


def _uncommented(file: Path) -> str:
    return "\n".join(line for line in file.read_text().splitlines() if not line.startswith("#"))
