"""Which kernels a host can boot, which one it will, and whether each has headers and NVIDIA's module. Read-only."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

GRUB = ("boot/grub/grub.cfg", "boot/grub2/grub.cfg")
ENVIRONMENT = ("boot/grub/grubenv", "boot/grub2/grubenv")
LINKS = ("vmlinuz", "boot/vmlinuz")
DEFAULT = re.compile(r'^\s*set default="([^"]*)"', re.MULTILINE)
ENTRY = re.compile(r"^\s*linux(?:efi)?\s+\S*/vmlinuz-(\S+)", re.MULTILINE)
# What begins an entry of the menu, and one of a submenu, whose lines are indented.
OUTER = re.compile(r"^(?=(?:menuentry|submenu)\s)", re.MULTILINE)
INNER = re.compile(r"^(?=\s+menuentry\s)", re.MULTILINE)
MODINFO_S = 20


def kernels(root: str = "/", running: str = "") -> list[dict[str, Any]]:
    """Describe the running kernel and the one that boots next; it is one entry when they are the same.

    `image` tells whether it lies under /boot, `headers` whether a module can be built for it, `module` is the version
    of the nvidia module on its disk (empty without one), `signer` who signed that.
    """
    running = running or platform.release()
    coming = following(root, running)
    found = [{"release": running, "running": True, "next": coming in ("", running)}]
    if coming not in ("", running):
        found.append({"release": coming, "running": False, "next": True})
    return [{**each, **_equipped(root, str(each["release"]))} for each in found]


def following(root: str = "/", running: str = "") -> str:
    """Return the release of the kernel that the next boot takes; empty where nothing under /boot tells."""
    base = Path(root)
    bootable = sorted((path.name[8:] for path in (base / "boot").glob("vmlinuz-*")), key=_order)
    if not bootable:
        return ""
    for chosen in (_by_grub(base, bootable), _by_link(base)):
        if chosen in bootable:
            return chosen
    return bootable[-1]


def _by_grub(base: Path, bootable: Sequence[str]) -> str:
    """Read GRUB's default entry: the first one, a title that ends with the release, or numbers."""
    menu = next((text for name in GRUB if (text := _read(base / name))), "")
    wanted = _default(menu, next((text for name in ENVIRONMENT if (text := _read(base / name))), ""))
    named = [
        release for release in bootable if wanted.endswith((f" {release}", f"-{release}-advanced")) or release in wanted
    ]
    if named:
        return max(named, key=len)
    return _numbered(menu, wanted or "0")


def _numbered(menu: str, wanted: str) -> str:
    """Return the kernel of an entry by its place: 1>2 is the third entry of the submenu that is second in the menu."""
    part = menu
    for number, begins in zip(wanted.split(">"), (OUTER, INNER)):
        entries = begins.split(part)[1:]
        if not number.isdigit() or int(number) >= len(entries):
            return ""
        part = entries[int(number)]
    found = ENTRY.search(part)
    return found[1] if found else ""


def _default(menu: str, saved: str) -> str:
    """Return what GRUB takes by default; an entry that is set for the next boot alone comes first."""
    variables = dict(line.split("=", 1) for line in saved.splitlines() if "=" in line)
    if variables.get("next_entry"):
        return variables["next_entry"]
    chosen = (DEFAULT.findall(menu) or [""])[-1]
    name = re.fullmatch(r"\$\{(\w+)\}", chosen)
    return variables.get(name.group(1), "") if name else chosen


def _by_link(base: Path) -> str:
    for name in LINKS:
        link = base / name
        if link.is_symlink():
            return link.readlink().name.partition("vmlinuz-")[2]
    return ""


def _order(release: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", release)]


def _equipped(root: str, release: str) -> dict[str, Any]:
    said = _modinfo(root, release)
    return {
        "image": Path(root, "boot", f"vmlinuz-{release}").exists(),
        "headers": (Path(root, "lib/modules", release, "build", "Makefile")).exists(),
        "module": said.get("version", ""),
        "signer": said.get("signer", ""),
    }


def _modinfo(root: str, release: str) -> dict[str, str]:
    """Return the fields of the nvidia module that a kernel would load."""
    if not Path(root, "lib/modules", release).is_dir():
        return {}
    command = ["modinfo", "-b", root, "-k", release, "nvidia"]
    try:
        environment = {**os.environ, "LC_ALL": "C"}
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=MODINFO_S, env=environment)
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return {}
    pairs = (line.split(":", 1) for line in done.stdout.splitlines() if ":" in line)
    return {name: value.strip() for name, value in pairs}


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
