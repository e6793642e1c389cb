"""Hand the outer machine's package index settings to practice hosts."""

import os
import re
from pathlib import Path

CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
UV_CACHE_ON_HOST = "/opt/rackhand/cache/uv"


def uv_environment() -> dict[str, str]:
    """Return the environment in which uv on a practice host finds what this machine finds."""
    found = {"SSL_CERT_FILE": str(CERTIFICATES), "UV_LINK_MODE": "symlink"}
    directories = find_links()
    if directories:
        found["UV_FIND_LINKS"] = ",".join(str(directory) for directory in directories)
    if not any(_offers_torch_for_cpu(directory) for directory in directories):
        found["UV_TORCH_BACKEND"] = "cpu"
    index = next((os.environ[name] for name in ("UV_DEFAULT_INDEX", "PIP_INDEX_URL") if os.environ.get(name)), None)
    if index:
        found["UV_DEFAULT_INDEX"] = index
    return found


def find_links() -> list[Path]:
    """Return the local wheel directories named by UV_FIND_LINKS and PIP_FIND_LINKS; they are bound into every host."""
    named = " ".join(os.environ.get(name, "") for name in ("UV_FIND_LINKS", "PIP_FIND_LINKS"))
    paths = [Path(word.removeprefix("file://")) for word in re.split(r"[\s,]+", named) if word]
    return sorted({path for path in paths if path.is_absolute() and path.is_dir()})


def _offers_torch_for_cpu(directory: Path) -> bool:
    return any(directory.glob("torch-*+cpu-*.whl"))
