"""Give a practice host its hardware, before it boots or while it runs. Product code never knows of this."""

import shutil
from pathlib import Path

from rackhand.lab import driver_repo, node_tree, pci_tree
from rackhand.lab.nvml import conf
from rackhand.lab.personality import Personality

INSIDE = Path(__file__).parent / "inside"
# What building the libraries and the repository needs on the outer machine.
OUTER_PACKAGES = ("gcc", "libc6-dev", "dpkg-dev", "apt-utils", "gnupg")
UNIT = "rackhand-lab-hardware.service"
OWN = Path("usr/lib/rackhand-lab")
NVML_CONF = Path("etc/rackhand-lab/nvml.conf")
HOST_NAME = Path("etc/rackhand-lab/host-name")


def install(upper: Path, personality: Personality, repository_url: str, host_name: str | None = None) -> None:
    """Write the hardware of `personality` and its boot unit into the upper directory of a host that is down.

    The host's GPU UUIDs follow from `host_name`, by default the name of the folder around the upper directory;
    `repository_url` is noted for people in /etc/rackhand-lab.
    """
    _put(upper / HOST_NAME, host_name or upper.resolve().parent.name)
    _put(upper / "etc/rackhand-lab/repository-url", repository_url)
    for name in ("publish", "reload"):
        _put(upper / OWN / name, (INSIDE / "publish").read_text(), mode=0o755)
    for name in ("modprobe", "rmmod"):
        _put(upper / "usr/sbin" / name, (INSIDE / "modprobe").read_text(), mode=0o755)
        _link(upper / OWN / "kmod" / name, "/bin/kmod")
    unit = upper / "etc/systemd/system" / UNIT
    _put(unit, (INSIDE / UNIT).read_text())
    wanted = unit.parent / "sysinit.target.wants" / UNIT
    _link(wanted, f"../{UNIT}")
    rewrite(upper, personality)


def rewrite(host_root: Path, personality: Personality) -> None:
    """Change the hardware below `host_root`: an upper directory while the host is down, /proc/PID/root while it runs.

    NVML follows at the next nvmlInit or count, the PCI bus at once; the loaded module stays what it was.
    """
    host_name = (host_root / HOST_NAME).read_text().strip()
    _put(host_root / "etc/rackhand-lab/personality", personality.name)
    _put(host_root / NVML_CONF, conf.render(personality, host_name))
    pci_tree.write(host_root / OWN / "pci", personality.functions)
    node_tree.write(host_root / OWN / "node", personality)


def publish(www: Path, bridge_url: str) -> str:
    """Link the driver repositories below `www` and return their BASE address: Debian 12's is BASE/debian12/x86_64/."""
    link = www / "driver"
    www.mkdir(parents=True, exist_ok=True)
    repository = driver_repo.build()
    if link.is_dir() and not link.is_symlink():
        shutil.rmtree(link)
    draft = www / ".driver"
    draft.unlink(missing_ok=True)
    draft.symlink_to(repository)
    draft.rename(link)
    return f"{bridge_url.rstrip('/')}/driver"


def _link(path: Path, target: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.symlink_to(target)


def _put(path: Path, text: str, mode: int = 0o644) -> None:
    """Write a whole file or none, so that a reader on a running host never sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.draft")
    draft.write_text(text if text.endswith("\n") else text + "\n")
    draft.chmod(mode)
    draft.rename(path)
