"""Wheels written byte for byte the same on every machine, so that a lock file can carry their hash."""

import base64
import hashlib
import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field

EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True, kw_only=True)
class Wheel:
    """Describe a pure-Python wheel: its distribution, version and the files it installs."""

    name: str
    version: str
    summary: str
    files: Mapping[str, str] = field(default_factory=dict)
    console_scripts: Mapping[str, str] = field(default_factory=dict)

    @property
    def filename(self) -> str:
        """Name the wheel file (PEP 427)."""
        return f"{self.name}-{self.version}-py3-none-any.whl"

    def to_bytes(self) -> bytes:
        """Pack the wheel; stored, not deflated, because zlib builds differ in their output."""
        members = {**self.files, **self._metadata()}
        record = f"{self._dist_info}/RECORD"
        members[record] = "".join(_record_line(path, text) for path, text in members.items()) + f"{record},,\n"
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
            for path, text in members.items():
                archive.writestr(_member(path), text.encode())
        return buffer.getvalue()

    @property
    def sha256(self) -> str:
        """Digest the packed bytes, in hex."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    @property
    def _dist_info(self) -> str:
        return f"{self.name}-{self.version}.dist-info"

    def _metadata(self) -> dict[str, str]:
        files = {
            f"{self._dist_info}/METADATA": (
                f"Metadata-Version: 2.1\nName: {self.name}\nVersion: {self.version}\n"
                f"Summary: {self.summary}\nRequires-Python: >=3.11\n"
            ),
            f"{self._dist_info}/WHEEL": (
                "Wheel-Version: 1.0\nGenerator: rackhand\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
            ),
        }
        if self.console_scripts:
            lines = (f"{name} = {target}\n" for name, target in self.console_scripts.items())
            files[f"{self._dist_info}/entry_points.txt"] = "[console_scripts]\n" + "".join(lines)
        return files


def _member(path: str) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(path, EPOCH)
    member.create_system = 3
    member.external_attr = 0o100644 << 16
    return member


def _record_line(path: str, text: str) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")
    return f"{path},sha256={digest},{len(text.encode())}\n"
