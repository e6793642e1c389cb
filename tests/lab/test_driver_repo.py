"""The real apt, with a root directory of its own, judges the emulated driver repositories."""

import re
import subprocess
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import pytest

from rackhand import catalog
from rackhand.catalog import DriverHost, Platform
from rackhand.lab import driver_packages, driver_repo, signing

COMPUTE_ONLY = ("nvidia-driver-cuda", "nvidia-kernel-open-dkms")
WANTED = "580.126.20"
FOLDERS = ("state/lists/partial", "cache/archives/partial", "etc/preferences.d", "etc/sources.list.d", "etc/apt.conf.d")


class Apt:
    """apt-get and apt-cache of a host that exists only as a directory."""

    def __init__(self, root: Path, distribution: str, key: Path) -> None:
        self.root = root
        for folder in (*FOLDERS, "etc/trusted.gpg.d", "dpkg"):
            (root / folder).mkdir(parents=True)
        (root / "dpkg/status").touch()
        self.repository = driver_repo.build() / distribution / "x86_64"
        (root / "etc/sources.list").write_text(f"deb [arch=amd64 signed-by={key}] copy:{self.repository} /\n")
        settings = {
            "Dir::Etc": f"{root}/etc",
            "Dir::State": f"{root}/state",
            "Dir::State::status": f"{root}/dpkg/status",
            "Dir::Cache": f"{root}/cache",
            "Dir::Log": f"{root}",
            "APT::Architecture": "amd64",
            "APT::Sandbox::User": "",
            "Acquire::Languages": "none",
        }
        (root / "apt.conf").write_text("".join(f'{name} "{value}";\n' for name, value in settings.items()))

    def run(self, *argv: str) -> subprocess.CompletedProcess[str]:
        environment = {
            "APT_CONFIG": str(self.root / "apt.conf"),
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "LC_ALL": "C",
        }
        return subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=60, check=False)

    def update(self) -> subprocess.CompletedProcess[str]:
        return self.run("apt-get", "update", "-o", "APT::Update::Error-Mode=any")

    def simulate(self, packages: Sequence[str], *options: str) -> dict[str, str]:
        """Return name → version of what apt would install."""
        done = self.run("apt-get", "--simulate", *options, "install", *packages)
        assert done.returncode == 0, done.stdout + done.stderr
        return dict(re.findall(r"^Inst (\S+) \((\S+)", done.stdout, re.MULTILINE))

    def pin(self, package: str) -> None:
        """Unpack the preferences of a pinning package where this apt reads them."""
        deb = next(self.repository.glob(f"{package}_*.deb"))
        subprocess.run(["dpkg-deb", "-x", str(deb), str(self.root / "unpacked")], check=True)
        source = self.root / "unpacked/etc/apt/preferences.d/nvidia-driver-pin"
        (self.root / "etc/preferences.d/nvidia-driver-pin").write_text(source.read_text())


Ready = Callable[[str], Apt]


def public_key(distribution: str) -> Path:
    repository = driver_repo.build()
    return repository / distribution / "x86_64" / driver_repo.key_file(repository)


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Ready:
    """Return a function that hands out the apt of a distribution: updated once, without pins."""

    @cache
    def updated(distribution: str) -> Apt:
        root = tmp_path_factory.mktemp(distribution)
        key = root / "key.asc"  # apt wants this suffix for an armored key
        key.write_text(public_key(distribution).read_text())
        apt = Apt(root / "root", distribution, key)
        done = apt.update()
        assert done.returncode == 0, done.stdout + done.stderr
        return apt

    def unpinned(distribution: str) -> Apt:
        apt = updated(distribution)
        for pin in (apt.root / "etc/preferences.d").iterdir():
            pin.unlink()
        return apt

    return unpinned


@pytest.mark.parametrize("distribution", driver_packages.distributions(archives=False))
def test_apt_accepts_the_repository_signed_by_the_exported_key(ready: Ready, distribution: str) -> None:
    listing = ready(distribution).run("apt-cache", "policy", "nvidia-open").stdout
    assert "595.91.07" in listing


def test_apt_refuses_the_repository_under_another_key(tmp_path: Path) -> None:
    other = signing.key(tmp_path / "gpg")
    key = tmp_path / "other.asc"
    key.write_text(other.public)
    done = Apt(tmp_path / "root", "debian12", key).update()
    assert done.returncode != 0
    assert "NO_PUBKEY" in done.stdout + done.stderr


def test_apt_refuses_an_index_that_was_tampered_with(tmp_path: Path) -> None:
    key = tmp_path / "key.asc"
    key.write_text(public_key("debian12").read_text())
    apt = Apt(tmp_path / "root", "debian12", key)
    forged = tmp_path / "forged"
    forged.mkdir()
    for file in apt.repository.glob("*elease*"):
        (forged / file.name).write_bytes(file.read_bytes())
    (forged / "Packages").write_text((apt.repository / "Packages").read_text().replace("libcuda1", "libcuda2"))
    (apt.root / "etc/sources.list").write_text(f"deb [arch=amd64 signed-by={key}] copy:{forged} /\n")
    assert apt.update().returncode != 0


def test_the_fingerprint_is_that_of_the_exported_key() -> None:
    repository = driver_repo.build()
    shown = subprocess.run(
        ["gpg", "--show-keys", "--with-colons", str(public_key("debian12"))], capture_output=True, text=True, check=True
    ).stdout
    fingerprints = [line.split(":")[9] for line in shown.splitlines() if line.startswith("fpr:")]
    assert fingerprints == [driver_repo.fingerprint(repository)]
    assert driver_repo.key_file(repository) == f"{fingerprints[0][-8:].lower()}.pub"
    assert (public_key("debian12").parent / "3bf863cc.pub").read_bytes() == public_key("debian12").read_bytes()


def test_the_compute_only_set_at_an_exact_version_pulls_that_version_only(ready: Ready) -> None:
    apt = ready("debian12")
    apt.pin(f"nvidia-driver-pinning-{WANTED}")
    chosen = apt.simulate([f"{name}={WANTED}-1" for name in COMPUTE_ONLY])
    assert set(chosen.values()) == {f"{WANTED}-1"}
    assert {"libnvidia-ml1", "libcuda1", "nvidia-persistenced", "firmware-nvidia-gsp", *COMPUTE_ONLY} <= set(chosen)
    assert "nvidia-driver" not in chosen


def test_an_exact_version_without_a_pin_does_not_resolve_while_a_newer_branch_is_on_offer(ready: Ready) -> None:
    done = ready("debian12").run("apt-get", "--simulate", "install", *[f"{name}={WANTED}-1" for name in COMPUTE_ONLY])
    assert done.returncode != 0
    assert f"Depends: libnvidia-ml1 (= {WANTED}-1) but 595.91.07-1 is to be installed" in done.stdout


def test_the_meta_package_at_an_old_version_installs_the_newest_driver(ready: Ready) -> None:
    chosen = ready("debian12").simulate([f"nvidia-open={WANTED}-1"])
    assert chosen["nvidia-open"] == f"{WANTED}-1"
    assert chosen["libcuda1"] == "595.91.07-1"


def test_a_pinned_branch_stays_on_it(ready: Ready) -> None:
    apt = ready("debian12")
    apt.pin("nvidia-driver-pinning-580")
    assert set(apt.simulate(["nvidia-open"]).values()) == {f"{WANTED}-1"}


def test_recommends_bring_the_module_to_a_host_that_asked_for_the_library(ready: Ready) -> None:
    apt = ready("debian12")
    assert "nvidia-kernel-open-dkms" in apt.simulate(["libcuda1"])
    assert "nvidia-kernel-open-dkms" not in apt.simulate(["libcuda1"], "--no-install-recommends")


@pytest.mark.parametrize("distribution", ["ubuntu2204", "ubuntu2404"])
def test_ubuntu_names_carry_the_branch_up_to_580_and_not_after(ready: Ready, distribution: str) -> None:
    apt = ready(distribution)
    apt.pin("nvidia-driver-pinning-580")
    old = apt.simulate(["libnvidia-compute-580", "nvidia-dkms-580-open", "nvidia-utils-580"])
    assert {"nvidia-firmware-580", "nvidia-kernel-common-580"} <= set(old)
    assert {version.split("-")[0] for version in old.values()} == {WANTED}
    apt.pin("nvidia-driver-pinning-595")
    new = apt.simulate(["libnvidia-compute", "nvidia-dkms-open", "nvidia-persistenced"])
    assert {version.split("-")[0] for version in new.values()} == {"595.91.07"}


@pytest.mark.parametrize("distribution", driver_packages.distributions())
def test_every_dependency_can_be_met_inside_the_repository(ready: Ready, distribution: str) -> None:
    done = ready(distribution).run("apt-cache", "unmet", "-o", "APT::Cache::Important=true")
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize(("system", "release"), [("debian", "12"), ("ubuntu", "22.04"), ("ubuntu", "24.04")])
@pytest.mark.parametrize("version", ["580.95.05", WANTED, "595.71.05"])
def test_what_the_catalogue_would_install_resolves_to_one_version(
    ready: Ready, system: str, release: str, version: str
) -> None:
    where = DriverHost(distribution=system, version=release, platform=Platform.NVSWITCH)
    wanted = catalog.driver_packages(where, catalog.branch_of(version))
    apt = ready(f"{system}{release.replace('.', '')}")
    pin = f"Package: {' '.join(wanted.pinned)}\nPin: version {version}-*\nPin-Priority: 1001\n"
    (apt.root / "etc/preferences.d/ours").write_text(pin)
    chosen = apt.simulate(wanted.install, "--no-install-recommends")
    assert set(wanted.install) <= set(chosen)
    assert [name for name, full in chosen.items() if not wanted.carries(full, version)] == []


def test_two_pinning_packages_cannot_be_installed_together(ready: Ready) -> None:
    done = ready("debian12").run(
        "apt-get", "--simulate", "install", "nvidia-driver-pinning-580", "nvidia-driver-pinning-595"
    )
    assert done.returncode != 0
    assert "Conflicts" in done.stdout


def test_the_package_of_the_library_holds_it_under_its_real_versioned_name() -> None:
    deb = driver_repo.build() / "debian12/x86_64" / f"libnvidia-ml1_{WANTED}-1_amd64.deb"
    listing = subprocess.run(["dpkg-deb", "-c", str(deb)], capture_output=True, text=True, check=True).stdout
    assert f"./usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1 -> libnvidia-ml.so.{WANTED}" in listing


def test_building_again_is_the_cached_repository() -> None:
    assert driver_repo.build() == driver_repo.build()
    assert driver_repo.versions() == ("580.95.05", "580.126.20", "595.71.05", "595.91.07")
