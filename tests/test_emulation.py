"""What a host is given before boot, and how it changes while it runs."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from rackhand.lab import emulation, personality
from rackhand.remote import gpu


def lspci(root: Path, *options: str) -> str:
    """Run the real lspci on the emulated bus; it reads below a base directory of our choice."""
    base = root / "sys/bus/pci"
    base.mkdir(parents=True, exist_ok=True)
    if not (base / "devices").exists():
        (base / "devices").symlink_to(root / emulation.OWN / "pci")
    argv = ["lspci", "-A", "linux-sysfs", "-O", f"sysfs.path={base}", *options]
    environment = {"PATH": "/usr/bin:/usr/sbin", "LC_ALL": "C"}
    listing = subprocess.run(argv, capture_output=True, text=True, check=True, env=environment).stdout
    return listing.replace("GH100[", "GH100 [")  # pci.ids of 2023 lacks the blank


def host(tmp_path: Path, name: str) -> Path:
    upper = tmp_path / "gpu-01" / "upper"
    emulation.install(upper, personality.load(name), "http://10.0.0.1:8480")
    return upper


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("1xH100", "18:00.0 3D controller [0302]: NVIDIA Corporation GH100 [H100 SXM5 80GB] [10de:2330] (rev a1)"),
        ("2xRTX4090", "VGA compatible controller [0300]: NVIDIA Corporation AD102 [GeForce RTX 4090] [10de:2684]"),
        ("2xRTX4090", "Audio device [0403]: NVIDIA Corporation AD102 High Definition Audio Controller [10de:22ba]"),
        ("1xT4", "3b:00.0 3D controller [0302]: NVIDIA Corporation TU104GL [Tesla T4] [10de:1eb8]"),
        ("1xP100", "3b:00.0 3D controller [0302]: NVIDIA Corporation GP100GL [Tesla P100 PCIe 16GB] [10de:15f8]"),
        ("none", "VGA compatible controller [0300]: ASPEED Technology, Inc. ASPEED Graphics Family [1a03:2000]"),
    ],
)
def test_the_real_lspci_shows_the_card(tmp_path: Path, name: str, line: str) -> None:
    assert line in lspci(host(tmp_path, name), "-nn")


def test_the_real_lspci_reads_subsystems_and_the_switches(tmp_path: Path) -> None:
    upper = host(tmp_path, "8xH100-nvswitch")
    assert lspci(upper, "-n").count(" 0680: 10de:22a3 ") == 4
    # What a subsystem is called depends on the age of the machine's list of names, its numbers do not.
    assert re.search(r"Subsystem: NVIDIA Corporation .*\[10de:16c1\]", lspci(upper, "-nnv", "-s", "1b:00.0"))


def test_the_uuids_follow_from_the_name_of_the_host(tmp_path: Path) -> None:
    card = personality.load("1xH100").gpus[0]
    assert card.uuid("gpu-01") in (host(tmp_path, "1xH100") / emulation.NVML_CONF).read_text()


def test_a_running_host_can_lose_a_card_and_get_another(tmp_path: Path) -> None:
    upper = host(tmp_path, "4xmixed")
    bus = (upper / emulation.OWN / "pci").stat().st_ino
    emulation.rewrite(upper, personality.load("4xmixed").with_fewer_gpus(3).with_model(0, "t4"))
    cards = [line.split()[0] for line in lspci(upper, "-d", "10de:").splitlines()]
    assert cards == ["17:00.0", "31:00.0", "b1:00.0"]
    assert (upper / emulation.NVML_CONF).read_text().count("Tesla T4") == 2
    assert (upper / emulation.OWN / "pci").stat().st_ino == bus


def test_a_host_with_cards_on_two_sockets_has_two_nodes_of_real_cpus(tmp_path: Path) -> None:
    nodes = gpu.nodes(str(host(tmp_path, "4xA10-two-sockets") / emulation.OWN / "node"))
    assert [node["node"] for node in nodes] == [0, 1]
    assert all(node["memory_mib"] > 0 for node in nodes)
    cpus = {int(cpu) for node in nodes for cpu in node["cpus"].split(",")}
    assert cpus == os.sched_getaffinity(0)
    emulation.rewrite(tmp_path / "gpu-01" / "upper", personality.load("1xL4"))
    assert not (tmp_path / "gpu-01" / "upper" / emulation.OWN / "node").exists()


def test_the_boot_unit_is_enabled_before_anything_else_starts(tmp_path: Path) -> None:
    upper = host(tmp_path, "1xL4")
    wanted = upper / "etc/systemd/system/sysinit.target.wants" / emulation.UNIT
    assert wanted.resolve() == (upper / "etc/systemd/system" / emulation.UNIT).resolve()
    assert (upper / emulation.OWN / "publish").stat().st_mode & 0o111


def test_publishing_links_the_repositories_where_hosts_fetch_them(tmp_path: Path) -> None:
    www = tmp_path / "www"
    base = emulation.publish(www, "http://10.0.0.1:8480/")
    assert base == "http://10.0.0.1:8480/driver"
    assert emulation.publish(www, "http://10.0.0.1:8480") == base
    assert (www / "driver/debian12/x86_64/InRelease").is_file()
