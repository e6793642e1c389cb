"""Write a PCI bus as sysfs shows it, so that the real lspci and every reader of /sys see the emulated devices.

Layout of configuration space: PCI Local Bus Specification 3.0, figure 6-1.
"""

import shutil
import struct
from pathlib import Path

from rackhand.lab.personality import PciFunction

SPEED_GT = {1: "2.5", 2: "5.0", 3: "8.0", 4: "16.0", 5: "32.0", 6: "64.0"}
CONFIG_BYTES = 256
MULTIFUNCTION = 0x80


def write(folder: Path, functions: tuple[PciFunction, ...]) -> None:
    """Make `folder` show exactly `functions`; what stays is rewritten in place, so a live bind mount follows."""
    folder.mkdir(parents=True, exist_ok=True)
    addresses = {function.address for function in functions}
    for stale in folder.iterdir():
        if stale.name not in addresses:
            shutil.rmtree(stale)
    for function in functions:
        _write_device(folder / function.address, function, _has_siblings(function, addresses))


def config_space(function: PciFunction, *, multifunction: bool) -> bytes:
    """Return the 256 bytes of configuration space of one function."""
    space = bytearray(CONFIG_BYTES)
    struct.pack_into("<HHHH", space, 0x00, function.vendor, function.device, 0x0006, 0x0000)
    space[0x08] = function.revision
    space[0x09:0x0C] = function.class_code.to_bytes(3, "little")
    space[0x0E] = MULTIFUNCTION if multifunction else 0
    struct.pack_into("<HH", space, 0x2C, function.subsystem_vendor, function.subsystem_device)
    space[0x3D] = 1
    return bytes(space)


def _write_device(folder: Path, function: PciFunction, multifunction: bool) -> None:
    speed = f"{SPEED_GT[function.pcie_generation]} GT/s PCIe"
    texts = {
        "vendor": f"0x{function.vendor:04x}",
        "device": f"0x{function.device:04x}",
        "class": f"0x{function.class_code:06x}",
        "subsystem_vendor": f"0x{function.subsystem_vendor:04x}",
        "subsystem_device": f"0x{function.subsystem_device:04x}",
        "revision": f"0x{function.revision:02x}",
        "numa_node": str(function.numa_node),
        "current_link_speed": speed,
        "max_link_speed": speed,
        "current_link_width": str(function.pcie_width),
        "max_link_width": str(function.pcie_width),
        "irq": "0",
        "enable": "1",
        "modalias": _modalias(function),
        "resource": "\n".join(["0x0000000000000000 0x0000000000000000 0x0000000000000000"] * 13),
    }
    folder.mkdir(exist_ok=True)
    for name, text in texts.items():
        (folder / name).write_text(text + "\n")
    (folder / "config").write_bytes(config_space(function, multifunction=multifunction))


def _modalias(function: PciFunction) -> str:
    kind, subkind, interface = function.class_code.to_bytes(3, "big")
    return (
        f"pci:v{function.vendor:08X}d{function.device:08X}sv{function.subsystem_vendor:08X}"
        f"sd{function.subsystem_device:08X}bc{kind:02X}sc{subkind:02X}i{interface:02X}"
    )


def _has_siblings(function: PciFunction, addresses: set[str]) -> bool:
    slot = function.address.rsplit(".", 1)[0]
    return sum(address.rsplit(".", 1)[0] == slot for address in addresses) > 1
