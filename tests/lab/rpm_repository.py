"""NVIDIA's rpm repository and a distribution's, emulated and signed: names, dependencies, versions, no files."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from rackhand.lab import require, shell, signing

PACKAGES = {
    "rpm": "rpmbuild",
    "dnf": "dnf",
    "dnf-plugins-core": "/etc/dnf/plugins/versionlock.conf",
    "createrepo-c": "createrepo_c",
}
VERSIONS = ("580.95.05", "580.126.20", "595.71.05")
KERNEL, NEWER_KERNEL = "5.14.0-687.51.1.el9_8", "5.14.0-690.1.1.el9_8"
# NVIDIA's packages carry an epoch; those of the fabric do not, nor the distribution in their release.
DRIVER: Mapping[str, str] = {
    "nvidia-driver-cuda": "nvidia-driver-cuda-libs = {full}, nvidia-kmod-common = {full}, nvidia-persistenced = {full}",
    "nvidia-driver-cuda-libs": "libnvidia-ml = {full}",
    "libnvidia-ml": "",
    "libnvidia-cfg": "",
    "nvidia-persistenced": "libnvidia-cfg = {full}",
    "nvidia-modprobe": "",
    "nvidia-kmod-common": "nvidia-kmod = {full}, nvidia-modprobe = {full}",
    "kmod-nvidia-open-dkms": "dkms, nvidia-kmod-common = {full}",
    "kmod-nvidia-latest-dkms": "dkms, nvidia-kmod-common = {full}",
}
# Takes a minute to be installed where there is a file /slow.
SLOW_ONE = "nvidia-driver-cuda"
FABRIC = ("nvidia-fabricmanager", "libnvidia-nscq")
BASE: Mapping[str, str] = {
    "gcc": "",
    "glibc-devel": "",
    "python3-dnf-plugin-versionlock": "",
    "cuda-monitor": "nvidia-driver-cuda = 3:580.126.20",
}
EPEL: Mapping[str, str] = {"dkms": "gcc, kernel-devel-matched"}
HEAD = """\
Name: {name}
Epoch: {epoch}
Version: {version}
Release: {release}
Summary: emulated
License: none
{more}
%description
Emulated; holds nothing.
"""
PART = """\
%package -n {name}
Summary: emulated
{more}
%description -n {name}
Emulated; holds nothing.
%files -n {name}
"""
# In Lua, because a shell would be one more package to need.
SLOW = """\
%post -n {name} -p <lua>
if posix.access("/slow") then posix.sleep(60) end
"""

STREAM = """\
---
document: modulemd
version: 2
data:
  name: nvidia-driver
  stream: "{branch}-open"
  version: 1
  context: "0"
  arch: x86_64
  summary: emulated
  description: Emulated; holds nothing.
  license: {{module: [MIT]}}
  profiles: {{default: {{rpms: [nvidia-driver-cuda]}}}}
  artifacts:
    rpms:
{artifacts}...
"""


def build(home: Path) -> str:
    """Put the repositories nvidia, base and epel below a directory and return the fingerprint of the key of nvidia."""
    require.ensure(PACKAGES)
    key = signing.key(home / "signing")
    for version in VERSIONS:
        _build(home / "nvidia", "driver", ("3", version, "1.el9"), _driver(version))
        _build(home / "nvidia", "fabric", ("0", version, "1"), dict.fromkeys(FABRIC, ""))
    for folder, rows in (("base", BASE), ("epel", EPEL)):
        _build(home / folder, folder, ("0", "1.0", "1.el9"), {name: _requires(needs) for name, needs in rows.items()})
    for version, _, release in (each.partition("-") for each in (KERNEL, NEWER_KERNEL)):
        _build(home / "base", "kernel", ("0", version, release), dict(_kernel(version, release)))
    files = [str(path) for path in sorted((home / "nvidia").glob("*.rpm"))]
    signer = {"__gpg": "/usr/bin/gpg", "_gpg_name": key.fingerprint, "_gpg_path": home / "signing"}
    names = [word for name, value in signer.items() for word in ("--define", f"{name} {value}")]
    shell.run(["rpmsign", *names, "--addsign", *files])
    (home / "nvidia" / f"{key.fingerprint[-8:].lower()}.pub").write_text(key.public)
    for folder in ("nvidia", "base", "epel"):
        shell.run(["createrepo_c", "--quiet", str(home / folder)])
    (home / "modules.yaml").write_text("".join(map(_stream, VERSIONS[1:])))
    shell.run(["modifyrepo_c", "--mdtype=modules", str(home / "modules.yaml"), str(home / "nvidia/repodata")])
    return key.fingerprint


def _driver(version: str) -> dict[str, str]:
    """Return the packages of one version; whichever flavour of the module is a module."""
    found = {name: _requires(needs.format(full=f"3:{version}")) for name, needs in DRIVER.items()}
    module = f"Provides: nvidia-kmod = 3:{version}\nConflicts: nvidia-kmod\n"
    return {name: text + (module if name.startswith("kmod-") else "") for name, text in found.items()}


def _stream(version: str) -> str:
    """Return the module stream of a version's branch; the newest is the default one, as in NVIDIA's directory."""
    branch = version.partition(".")[0]
    artifacts = "".join(f"    - {name}-3:{version}-1.el9.x86_64\n" for name in DRIVER)
    return STREAM.format(branch=branch, artifacts=artifacts)


def _kernel(version: str, release: str) -> Iterator[tuple[str, str]]:
    yield "kernel-core", "Provides: installonlypkg(kernel)\n"
    yield "kernel-devel", "Provides: installonlypkg(kernel)\n"
    yield "kernel-devel-matched", _requires(f"kernel-core = {version}-{release}, kernel-devel = {version}-{release}")


def _requires(needs: str) -> str:
    return f"Requires: {needs}\n" if needs else ""


def _build(folder: Path, source: str, number: tuple[str, str, str], parts: Mapping[str, str]) -> None:
    """Build every part of one source package in one call."""
    folder.mkdir(parents=True, exist_ok=True)
    epoch, version, release = number
    spec = folder.parent / f"{source}.spec"
    head = HEAD.format(name=source, epoch=epoch, version=version, release=release, more="")
    text = "".join(PART.format(name=name, more=more) for name, more in parts.items())
    slow = "".join(SLOW.format(name=name) for name in parts if name == SLOW_ONE)
    spec.write_text(head + text + slow)
    name = "%%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm"
    places = {"_topdir": str(folder.parent / "work"), "_rpmdir": str(folder), "_rpmfilename": name}
    defined = [word for key, value in places.items() for word in ("--define", f"{key} {value}")]
    shell.run(["rpmbuild", "-bb", "--quiet", "--target", "x86_64", *defined, str(spec)])
