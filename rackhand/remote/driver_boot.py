"""Have the kernel that boots next find NVIDIA's module, and no nouveau before it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from rackhand.remote import command, files, kernels
from rackhand.remote.problem import Problem

BLACKLIST = Path("/etc/modprobe.d/rackhand-nouveau.conf")
TEXT = "# Written by rackhand; edits are lost.\nblacklist nouveau\noptions nouveau modeset=0\n"
LOG = "driver-boot"
# Whichever the distribution has rebuilds what a boot begins with.
INITRAMFS = (("update-initramfs", "-u", "-k", "all"), ("dracut", "--force", "--regenerate-all"))


@command.alone("driver")
def ready(version: str, nouveau: bool, timeout_s: int) -> dict[str, str]:
    """Shut out nouveau where it is loaded, and build what is missing; return {release, module} of the next kernel.

    `module` is the version that it would load, empty where it has none. Raises Problem `initramfs` where nouveau would
    be loaded again by what a boot begins with.
    """
    if nouveau:
        _shut_out(timeout_s)
    found = _next()
    if found["module"] != version and shutil.which("dkms"):
        command.run(["dkms", "autoinstall", "-k", found["release"]], LOG, timeout_s)
        found = _next()
    return {"release": found["release"], "module": found["module"]}


def _next() -> dict[str, Any]:
    return next(each for each in kernels.kernels() if each["next"])


def _shut_out(timeout_s: int) -> None:
    """Driver packages bring a blacklist; what already is in the initramfs loads before that is read."""
    if not BLACKLIST.exists():
        files.write(BLACKLIST, TEXT)
    tool = next((words for words in INITRAMFS if shutil.which(words[0])), None)
    if tool is None:
        return
    status, said = command.run(tool, LOG, timeout_s)
    if status:
        what = f"nouveau has the GPUs, and what a boot begins with cannot be built without it ({tool[0]}: {status})"
        step = f"see {command.LOGS}/{LOG}.log and the free space in /boot on the host, then run again"
        raise Problem("initramfs", what, step, said[-6:])
