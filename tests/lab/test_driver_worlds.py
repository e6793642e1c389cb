"""Hosts onto which no driver may be put: each is refused for its own reason, with the way out, and stays untouched."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from rackhand.lab.fleet import Fleet
from rackhand.lab.host import LabHost
from tests.lab.deploying import Result, World
from tests.lab.evidence import Files, files, touched

pytestmark = pytest.mark.lab

L4 = {"lab_personality": "1xL4"}
COMING = "6.1.0-999-amd64"
STANZA = (
    "\nPackage: {}\nStatus: install ok installed\nVersion: {}\nArchitecture: amd64\nMaintainer: x\n{}Description: x\n"
)
UBUNTU = 'ID=ubuntu\nVERSION_ID="24.04"\nPRETTY_NAME="Ubuntu 24.04.3 LTS"\n'
# What the kernel shows, and firmware beside it that this machine may not have.
SECURE_BOOT = """
mkdir /run/sys
mount -t tmpfs tmpfs /run/sys
for part in /sys/*; do
    [ "$part" = /sys/firmware ] || { mkdir "/run$part" && mount --rbind "$part" "/run$part"; }
done
mkdir -p /run/sys/firmware/efi/efivars /var/lib/dkms
printf '\\006\\000\\000\\000\\001' >/run/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c
mount --rbind /run/sys /sys
echo key >/var/lib/dkms/mok.pub
"""
CUDA_KEYRING = "deb [signed-by=/usr/share/keyrings/cuda-archive-keyring.gpg] {}/driver/debian12/x86_64/ /\n"
AGAINST = "Package: *\nPin: origin developer.download.nvidia.com\nPin-Priority: -1\n"


def known(host: LabHost, packages: Mapping[str, str], depends: str = "") -> None:
    """Let dpkg know of packages, each with a version and what it needs."""
    needs = f"Depends: {depends}\n" if depends else ""
    status = host.run(["cat", "/var/lib/dpkg/status"]).stdout
    added = "".join(STANZA.format(name, version, needs) for name, version in packages.items())
    host.write("/var/lib/dpkg/status", status.rstrip("\n") + "\n" + added)


def next_kernel(host: LabHost) -> None:
    host.write(f"/boot/vmlinuz-{COMING}", "")
    host.write("/var/lib/apt/lists/mirror_debian_dists_bookworm_main_binary-amd64_Packages", "")
    known(host, {f"linux-image-{COMING}": "6.1.999-1"})


def debians_driver(host: LabHost) -> None:
    known(host, dict.fromkeys(("nvidia-alternative", "nvidia-kernel-dkms", "libcuda1"), "535.261.03-1~deb12u1"))


def cuda_keyring(host: LabHost) -> None:
    host.write("/etc/apt/sources.list.d/cuda-debian12-x86_64.list", CUDA_KEYRING.format(host.repository_url))


def secure_boot(host: LabHost) -> None:
    host.write("/usr/local/bin/mokutil", '#!/bin/sh\necho "$2 is not enrolled"\n', 0o755)
    assert host.run(["sh", "-ec", SECURE_BOOT]).returncode == 0


def full_boot(host: LabHost) -> None:
    assert host.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", "/boot"]).returncode == 0


def ubuntu_without_a_followed_kernel(host: LabHost) -> None:
    host.write("/etc/os-release", UBUNTU)


@dataclass(frozen=True, kw_only=True)
class Odd:
    """What is wrong with a host, what is wished of it, and what its one line has to say."""

    breaks: Callable[[LabHost], Any]
    code: str
    says: tuple[str, ...]
    wished: Mapping[str, Any]


def odd(breaks: Callable[[LabHost], Any], code: str, *says: str, **wished: Any) -> Odd:
    return Odd(breaks=breaks, code=code, says=says, wished=wished)


WORLDS = {
    "wsecure": odd(secure_boot, "secure-boot", "is not enrolled", "mokutil --import", "turn Secure Boot off"),
    "wkernel": odd(next_kernel, "kernel-headers", COMING, "boots next", "upgrade the kernel together with its headers"),
    "wown": odd(
        lambda host: host.write("/boot/vmlinuz-7.1.0-own", ""), "kernel-headers", "/lib/modules/7.1.0-own/build"
    ),
    "wrunfile": odd(
        lambda host: host.write("/usr/bin/nvidia-uninstall", "#!/bin/sh\n", 0o755), "runfile-driver", "nvidia-uninstall"
    ),
    "worigin": odd(debians_driver, "driver-origin", "nvidia-alternative", "do not mix", "apt-get purge"),
    "wkeyring": odd(cuda_keyring, "repository-conflict", "cuda-debian12-x86_64.list", "cuda-archive-keyring.gpg"),
    "wpinned": odd(
        lambda host: host.write("/etc/apt/preferences.d/own", AGAINST), "driver-pinned", "d/own", "priority -1"
    ),
    "wboot": odd(full_boot, "driver-space", "150 MiB on the disk of /boot", "64 MiB are free", "free 86 MiB there"),
    "wnouveau": odd(
        lambda host: host.run(["modprobe", "nouveau"]), "nouveau", "blacklist nouveau", driver_reboot_allowed=False
    ),
    "wflavour": odd(
        ubuntu_without_a_followed_kernel, "kernel-flavour", "linux-image-generic", "driver_source = 'nvidia'",
        driver_source="distribution", driver_repository_url=None, driver_key_fingerprint=None,
    ),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Refused:
    """One run over all of these hosts, and their files before and after it."""

    result: Result
    before: Mapping[str, Files]
    after: Mapping[str, Files]


@pytest.fixture(scope="module")
def refused(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Refused]:
    world = World(fleet=fleet, directory=tmp_path_factory.mktemp("worlds"))
    hosts = {name: fleet.up(name, "1xL4") for name in WORLDS}
    for name, host in hosts.items():
        host.wait_ssh()
        host.run(["systemctl", "is-system-running", "--wait"])
        WORLDS[name].breaks(host)
    before = {name: files(host) for name, host in hosts.items()}
    result = world.deploy({name: {**L4, **each.wished} for name, each in WORLDS.items()})
    yield Refused(result=result, before=before, after={name: files(host) for name, host in hosts.items()})
    for name in hosts:
        fleet.remove(name)


@pytest.mark.parametrize("name", WORLDS)
def test_a_host_that_cannot_have_a_driver_is_refused_for_that_alone_and_stays_as_it_was(
    refused: Refused, name: str
) -> None:
    host = refused.result.host(name)
    codes = [problem["code"] for problem in host["problems"]]
    assert (host["status"], codes) == ("refused", [WORLDS[name].code]), refused.result.printed
    problem = host["problems"][0]
    text = f"{problem['what']} {problem['next_step']}"
    print(text)
    assert [word for word in WORLDS[name].says if word not in text] == []
    assert refused.result.changed(name) == []
    assert touched(refused.before[name], refused.after[name]) == []


def test_one_line_says_that_no_host_was_changed(refused: Refused) -> None:
    assert refused.result.status == 1
    assert f"nothing was changed on any host: {len(WORLDS)} of {len(WORLDS)} refused" in refused.result.printed
    assert "Traceback" not in refused.result.printed
