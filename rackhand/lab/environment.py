"""Hand the outer machine's package index settings to practice hosts."""

import configparser
import os
import re
from pathlib import Path

CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
UV_CACHE_ON_HOST = "/opt/rackhand/cache/uv"
# pip's configuration files, the strongest first (pip documentation, "Configuration").
PIP_FILES = ("~/.config/pip/pip.conf", "~/.pip/pip.conf", "/etc/xdg/pip/pip.conf", "/etc/pip.conf")


def uv_environment() -> dict[str, str]:
    """Return the environment in which uv on a practice host finds what this machine finds."""
    found = {"SSL_CERT_FILE": str(CERTIFICATES), "UV_LINK_MODE": "symlink"}
    directories = find_links()
    if directories:
        found["UV_FIND_LINKS"] = ",".join(str(directory) for directory in directories)
    if not any(_offers_torch_for_cpu(directory) for directory in directories):
        found["UV_TORCH_BACKEND"] = "cpu"
    index = os.environ.get("UV_DEFAULT_INDEX") or os.environ.get("PIP_INDEX_URL") or _of_pip("index-url")
    if index:
        found["UV_DEFAULT_INDEX"] = index
    return found


def find_links() -> list[Path]:
    """Return the local wheel directories that pip and uv are told of here; they are bound into every host."""
    named = [os.environ.get("UV_FIND_LINKS", ""), os.environ.get("PIP_FIND_LINKS", ""), _of_pip("find-links")]
    paths = [Path(word.removeprefix("file://")) for word in re.split(r"[\s,]+", " ".join(named)) if word]
    return sorted({path for path in paths if path.is_absolute() and path.is_dir()})


def _of_pip(option: str) -> str:
    """Return an option of pip's configuration files, or nothing."""
    chosen = os.environ.get("PIP_CONFIG_FILE")
    for name in (chosen,) if chosen else PIP_FILES:
        parser = configparser.RawConfigParser()
        parser.read(Path(name).expanduser())
        if parser.has_option("global", option):
            return parser.get("global", option)
    return ""


def _offers_torch_for_cpu(directory: Path) -> bool:
    return any(directory.glob("torch-*+cpu-*.whl"))
