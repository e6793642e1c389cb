"""NVIDIA's apt repositories, emulated as real signed ones: <distro>/x86_64/ with packages, indices and the key.

Layout as in NVIDIA's network repository: flat, `deb [signed-by=…] URL/<distro>/x86_64/ /`, key at <KEY>.pub, and again
under the name that NVIDIA's key has there, as a mirror that signs for itself would keep it.
"""

import hashlib
import shutil
import tempfile
from pathlib import Path

from rackhand.lab import driver_packages, driver_payloads, lock, nvml, places, shell, signing
from rackhand.lab.driver_packages import Package

BUILD_TIMEOUT_S = 600
ARCHITECTURE = "x86_64"
NVIDIA_KEY_FILE = "3bf863cc.pub"
RELEASE = {
    "Origin": "NVIDIA",
    "Label": "NVIDIA CUDA",
    "Suite": "stable",
    "Codename": "stable",
    "Architectures": "amd64",
    "Description": "emulated by the practice fleet",
}


def build() -> Path:
    """Return the directory with one repository per distribution, from the cache or built now (about 4 s)."""
    home = places.cache() / "driver-repo"
    repository = home / _digest()
    if repository.is_dir():
        return repository
    with lock.exclusive(places.locks() / "driver-repo.lock", BUILD_TIMEOUT_S):
        if not repository.is_dir():
            places.say("building the emulated driver repositories, once: a few seconds")
            _build(home, repository)
    return repository


def fingerprint(repository: Path) -> str:
    """Return the 40 hexadecimal digits of the key that signed `repository`."""
    return (repository / "fingerprint").read_text().strip()


def key_file(repository: Path) -> str:
    """Return the name of the armored public key in every distribution's directory, for instance 3bf863cc.pub."""
    return f"{fingerprint(repository)[-8:].lower()}.pub"


def versions() -> tuple[str, ...]:
    """Return the driver versions on offer, oldest first."""
    return tuple(driver.upstream for driver in driver_packages.drivers())


def _build(home: Path, repository: Path) -> None:
    home.mkdir(parents=True, exist_ok=True)
    for crashed in home.glob(".draft-*"):
        shutil.rmtree(crashed)
    key = signing.key(home / "signing")
    draft = Path(tempfile.mkdtemp(dir=home, prefix=".draft-"))
    draft.chmod(0o755)
    try:
        (draft / "fingerprint").write_text(key.fingerprint + "\n")
        for distribution in driver_packages.distributions():
            folder = draft / distribution / ARCHITECTURE
            folder.mkdir(parents=True)
            for package in driver_packages.packages(distribution):
                _place(draft / ".pool", package, folder)
            for name in (key_file(draft), NVIDIA_KEY_FILE):
                (folder / name).write_text(key.public)
            _index(folder, key)
        shutil.rmtree(draft / ".pool")
        draft.rename(repository)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _place(pool: Path, package: Package, folder: Path) -> None:
    """Build the .deb at its first use and link it into every directory that offers the same one."""
    content = hashlib.sha256(repr(package).encode()).hexdigest()[:12]
    deb = pool / f"{content}.deb"
    if not deb.exists():
        pool.mkdir(exist_ok=True)
        root = pool / "root"
        driver_payloads.fill(root, package)
        size_kib = 1 + sum(path.stat().st_size for path in root.rglob("*") if path.is_file()) // 1024
        (root / "DEBIAN/control").write_text(package.control(size_kib))
        shell.run(["dpkg-deb", "--root-owner-group", "-Zgzip", "-z1", "--build", str(root), str(deb)])
        shutil.rmtree(root)
    (folder / package.file_name).hardlink_to(deb)


def _index(folder: Path, key: signing.Key) -> None:
    script = 'cd "$1" && apt-ftparchive packages . >Packages && gzip -9 -k -n -f Packages'
    shell.run(["sh", "-c", script, "sh", str(folder)])
    options = [word for name, value in RELEASE.items() for word in ("-o", f"APT::FTPArchive::Release::{name}={value}")]
    release = shell.run(
        ["sh", "-c", 'cd "$1" && shift && exec "$@"', "sh", str(folder), "apt-ftparchive", *options, "release", "."]
    )
    (folder / "Release").write_text(release)
    signing.sign(key, folder / "Release", inline=folder / "InRelease", detached=folder / "Release.gpg")


def _digest() -> str:
    whole = hashlib.sha256(nvml.digest().encode())
    here = Path(__file__).parent
    own = [
        here / name for name in ("driver_packages.py", "driver_packages.yaml", "driver_payloads.py", "driver_repo.py")
    ]
    for path in (*own, *sorted(driver_payloads.PARTS.iterdir())):
        whole.update(path.read_bytes())
    return whole.hexdigest()[:12]
