"""On booted practice hosts: real lspci, real apt, the real nvidia-ml-py, and reboots that change what is loaded."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pynvml
import pytest

from rackhand.lab import driver_repo, emulation, personality, signing
from rackhand.lab.fleet import Fleet
from rackhand.lab.host import LabHost

pytestmark = pytest.mark.lab

OLD, NEW, OTHER_BRANCH = "580.95.05", "580.126.20", "595.91.07"
COMPUTE_ONLY = ("nvidia-driver-cuda", "nvidia-kernel-open-dkms")
KEYRING = "/usr/share/keyrings/nvidia.asc"
PROBE = """
import json, pynvml as n
try:
    n.nvmlInit()
    handles = [n.nvmlDeviceGetHandleByIndex(i) for i in range(n.nvmlDeviceGetCount())]
    names, uuids = [n.nvmlDeviceGetName(h) for h in handles], [n.nvmlDeviceGetUUID(h) for h in handles]
    answer = [n.nvmlSystemGetDriverVersion(), names, uuids]
except n.NVMLError as error:
    answer = error.value
print(json.dumps(answer))
"""
CUDA = "import ctypes; print(ctypes.CDLL('libcuda.so.1').cuInit(0))"


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    fleet = Fleet.at(tmp_path_factory.mktemp("fleet"))
    try:
        yield fleet
    finally:
        fleet.down()


def boot(fleet: Fleet, name: str, machine: str) -> LabHost:
    host = fleet.up(name, machine)
    host.wait_ssh()
    host.write("/opt/probe/pynvml.py", Path(pynvml.__file__).read_text())
    add_repository(host, (driver_repo.build() / "debian12/x86_64/3bf863cc.pub").read_text())
    return host


def add_repository(host: LabHost, key: str) -> None:
    host.write(KEYRING, key)
    url = f"{host.repository_url}/driver/debian12/x86_64/"
    host.write("/etc/apt/sources.list.d/nvidia.list", f"deb [signed-by={KEYRING}] {url} /\n")


def update(host: LabHost) -> str:
    options = ["-o", "Dir::Etc::sourcelist=/etc/apt/sources.list.d/nvidia.list", "-o", "Dir::Etc::sourceparts=-"]
    done = host.run(["apt-get", "update", "-o", "APT::Update::Error-Mode=any", *options])
    return "" if done.returncode == 0 else done.stdout + done.stderr


def install(host: LabHost, version: str, *more: str) -> None:
    """Install the compute-only set as an operator would: pin first, then one transaction."""
    pin = f"Package: *nvidia* libcuda* libnvsdm\nPin: version {version}-*\nPin-Priority: 1001\n"
    host.write("/etc/apt/preferences.d/nvidia", pin)
    assert not update(host)
    argv = [
        "apt-get",
        "install",
        "-y",
        "--no-install-recommends",
        *(f"{name}={version}-1" for name in (*COMPUTE_ONLY, *more)),
    ]
    done = host.run(["env", "DEBIAN_FRONTEND=noninteractive", *argv])
    assert done.returncode == 0, done.stdout + done.stderr


def serving(fleet: Fleet, name: str, machine: str) -> LabHost:
    """Return a booted host whose driver is installed and loaded."""
    host = boot(fleet, name, machine)
    install(host, NEW)
    host.reboot()
    return host


def probe(host: LabHost) -> Any:
    """Return [driver version, names, UUIDs], or the number of the NVML error."""
    done = host.run(["env", "PYTHONPATH=/opt/probe", "python3", "-c", PROBE])
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def cuda(host: LabHost) -> str:
    return host.run(["python3", "-c", CUDA]).stdout.strip()


def state(host: LabHost, unit: str) -> str:
    return host.run(["systemctl", "is-active", unit]).stdout.strip()


def test_a_host_becomes_a_gpu_server_and_an_upgrade_needs_a_reboot(fleet: Fleet) -> None:
    host = boot(fleet, "hw-one", "1xH100")
    listing = host.run(["lspci", "-nn"]).stdout.replace("GH100[", "GH100 [")
    assert "18:00.0 3D controller [0302]: NVIDIA Corporation GH100 [H100 SXM5 80GB] [10de:2330]" in listing
    assert "ASPEED" in listing
    assert probe(host) == pynvml.NVML_ERROR_LIBRARY_NOT_FOUND

    install(host, OLD)
    assert probe(host) == pynvml.NVML_ERROR_DRIVER_NOT_LOADED
    assert host.run(["nvidia-smi"]).returncode == 9
    host.reboot()
    version, names, uuids = probe(host)
    assert (version, names) == (OLD, ["NVIDIA H100 80GB HBM3"])
    assert uuids == [personality.load("1xH100").gpus[0].uuid("hw-one")]
    assert state(host, "nvidia-persistenced") == "active"
    assert host.run(["nvidia-smi", "-L"]).stdout == f"GPU 0: {names[0]} (UUID: {uuids[0]})\n"
    assert host.run(["modinfo", "-F", "version", "nvidia"]).stdout.strip() == OLD
    loaded = host.run(["cat", "/proc/driver/nvidia/version"]).stdout
    assert f"NVIDIA UNIX Open Kernel Module for x86_64  {OLD}  Release Build" in loaded
    assert host.run(["cat", "/sys/module/nvidia/version"]).stdout.strip() == OLD
    assert host.run(["readlink", "/sys/bus/pci/devices/0000:18:00.0/driver"]).stdout.strip().endswith("/nvidia")
    assert cuda(host) == "0"

    install(host, NEW)
    assert probe(host) == pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH
    smi = host.run(["nvidia-smi"])
    assert (smi.returncode, "Driver/library version mismatch" in smi.stdout) == (18, True)
    host.reboot()
    assert probe(host)[0] == NEW

    install(host, OTHER_BRANCH)
    assert probe(host) == pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH
    assert host.run(["/usr/lib/rackhand-lab/reload"]).returncode == 0
    assert probe(host)[0] == OTHER_BRANCH


def test_the_query_form_of_nvidia_smi_prints_plain_values(fleet: Fleet) -> None:
    host = serving(fleet, "hw-two", "2xRTX4090")
    query = ["nvidia-smi", "--query-gpu=index,name,memory.total,driver_version", "--format=csv,noheader,nounits"]
    lines = [f"{index}, NVIDIA GeForce RTX 4090, 24564, {NEW}" for index in (0, 1)]
    assert host.run(query).stdout.splitlines() == lines


def test_a_running_host_loses_a_gpu(fleet: Fleet) -> None:
    host = serving(fleet, "hw-two", "2xRTX4090")
    healthy = personality.load("2xRTX4090")
    root = Path(f"/proc/{host.pid}/root")
    emulation.rewrite(root, healthy.with_gpu(1, lost=True))
    assert probe(host) == pynvml.NVML_ERROR_GPU_IS_LOST
    emulation.rewrite(root, healthy.with_fewer_gpus(1))
    assert len(probe(host)[1]) == 1
    assert len(host.run(["lspci", "-n", "-d", "10de::0300"]).stdout.splitlines()) == 1
    emulation.rewrite(root, healthy)
    assert len(probe(host)[1]) == 2


def test_an_hgx_host_computes_only_with_a_fabric_manager_of_the_loaded_version(fleet: Fleet) -> None:
    host = serving(fleet, "hw-hgx", "8xH100-nvswitch")
    assert len(probe(host)[1]) == 8
    assert cuda(host) == "802"

    install(host, NEW, "nvidia-fabricmanager")
    assert host.run(["systemctl", "enable", "--now", "nvidia-fabricmanager"]).returncode == 0
    assert cuda(host) == "0"

    host.write("/etc/apt/preferences.d/nvidia", "")
    newer = ["apt-get", "install", "-y", f"nvidia-fabricmanager={OTHER_BRANCH}-1"]
    assert host.run(newer).returncode == 0
    assert host.run(["systemctl", "restart", "nvidia-fabricmanager"]).returncode != 0
    journal = host.run(["journalctl", "-u", "nvidia-fabricmanager", "-o", "cat", "--no-pager"]).stdout
    assert f"interface version {OTHER_BRANCH} don't match with driver version {NEW}" in journal
    assert cuda(host) == "802"


def test_a_host_without_a_card_loads_no_module(fleet: Fleet) -> None:
    host = serving(fleet, "hw-none", "none")
    assert probe(host) == pynvml.NVML_ERROR_DRIVER_NOT_LOADED
    assert state(host, "nvidia-persistenced") == "failed"


def test_apt_inside_refuses_the_repository_under_a_foreign_key(fleet: Fleet, tmp_path: Path) -> None:
    host = boot(fleet, "hw-none", "none")
    assert not update(host)
    add_repository(host, signing.key(tmp_path / "gpg").public)
    assert "NO_PUBKEY" in update(host)
