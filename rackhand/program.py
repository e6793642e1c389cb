"""The host's own program: one file that Python runs, built from rackhand.remote, and the units that run it. Pure."""

import base64
import hashlib
import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from rackhand import payload
from rackhand.templates import template

# What the program can be told to do, and the function that does it.
WORDS = {
    "turn": "turn.main",
    "driver": "driver_back.main",
    "state": "listener.main",
    "nvml": "nvml.main",
    "gpus": "gpu_modes.main",
    "metrics": "metrics.main",
    "gpu-metrics": "gpu_metrics.main",
}
MAIN = "__main__.py"
BEGINNING = (
    '"""Do what the first argument says."""\n'
    "import importlib, sys\n"
    "module, _, function = {words!r}[sys.argv[1]].rpartition('.')\n"
    "getattr(importlib.import_module('rackhand.remote.' + module), function)()\n"
)
UNITS = (
    "rackhand-switch.service",
    "rackhand-driver.service",
    "rackhand-state.socket",
    "rackhand-state.service",
    "rackhand-gpus.service",
    "rackhand-hardware.service",
)
# The oldest time that a zip archive knows: the same sources give the same bytes.
EPOCH = (1980, 1, 1, 0, 0, 0)
MODE = 0o644


@dataclass(frozen=True, kw_only=True)
class Program:
    """The program's bytes and their digest, and the units by their names."""

    digest: str
    data: bytes
    units: Mapping[str, str]

    @property
    def unit_digests(self) -> dict[str, str]:
        """Return the digests of the unit files, as a host's survey says them."""
        return {name: hashlib.sha256(text.encode()).hexdigest() for name, text in self.units.items()}

    @property
    def text(self) -> str:
        """Return the bytes as they travel."""
        return base64.b64encode(self.data).decode()


@cache
def program(root: str, state_port: int, metrics_directory: str) -> Program:
    """Build the program for hosts that tell routers at `state_port` who is ready, and keep metrics in a directory."""
    data = _archive()
    units = {
        name: template(f"{name}.j2").render(root=root, port=state_port, metrics_directory=metrics_directory)
        for name in UNITS
    }
    return Program(digest=hashlib.sha256(data).hexdigest()[:12], data=data, units=units)


@cache
def _archive() -> bytes:
    """Pack every module that the program may need, and pynvml, without anything that differs from build to build."""
    texts = {MAIN: BEGINNING.format(words=WORDS)} | payload.sources([each.partition(".")[0] for each in WORDS.values()])
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, text in sorted(texts.items()):
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.external_attr, entry.compress_type = MODE << 16, zipfile.ZIP_DEFLATED
            archive.writestr(entry, text)
    return packed.getvalue()
