"""Hosts as one buys or rents them, by what they say of themselves; and models of the catalogue to plan for them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from rackhand.catalog.models import model
from rackhand.models.find import find
from rackhand.models.spec import ModelSpec
from rackhand.survey import Survey, parse
from rackhand.weights import Weights
from rackhand.wishes import Wishes
from tests.surveys import DRIVER, address, answer, uuid, wishes


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One card: PCI device, memory in MiB as NVML shows it, what of it the driver keeps, compute capability."""

    device: str
    name: str
    memory_mib: int
    reserved_mib: int
    capability: tuple[int, int]
    device_class: str = "0x030200"


# NVML's totals; the reserve is what CUDA's total in gpus.yaml is less.
KINDS = {
    "P100": Kind(device="0x15f8", name="Tesla P100-PCIE-16GB", memory_mib=16_384, reserved_mib=104, capability=(6, 0)),
    "T4": Kind(device="0x1eb8", name="Tesla T4", memory_mib=15_360, reserved_mib=451, capability=(7, 5)),
    "A10G": Kind(device="0x2237", name="NVIDIA A10G", memory_mib=23_028, reserved_mib=441, capability=(8, 6)),
    "RTX4090": Kind(
        device="0x2684", name="NVIDIA GeForce RTX 4090", memory_mib=24_564, reserved_mib=357, capability=(8, 9),
        device_class="0x030000",
    ),
    "L4": Kind(device="0x27b8", name="NVIDIA L4", memory_mib=23_034, reserved_mib=471, capability=(8, 9)),
    "L40S": Kind(device="0x26b9", name="NVIDIA L40S", memory_mib=46_068, reserved_mib=613, capability=(8, 9)),
    "A100-40": Kind(
        device="0x20b0", name="NVIDIA A100-SXM4-40GB", memory_mib=40_960, reserved_mib=625, capability=(8, 0)
    ),
    "A100-80": Kind(
        device="0x20b2", name="NVIDIA A100-SXM4-80GB", memory_mib=81_920, reserved_mib=767, capability=(8, 0)
    ),
    "A100-80-PCIe": Kind(
        device="0x20b5", name="NVIDIA A100 80GB PCIe", memory_mib=81_920, reserved_mib=766, capability=(8, 0)
    ),
    "H100": Kind(device="0x2330", name="NVIDIA H100 80GB HBM3", memory_mib=81_559, reserved_mib=477, capability=(9, 0)),
    "H200": Kind(device="0x2335", name="NVIDIA H200", memory_mib=143_771, reserved_mib=616, capability=(9, 0)),
    "B200": Kind(device="0x2901", name="NVIDIA B200", memory_mib=183_359, reserved_mib=728, capability=(10, 0)),
}  # fmt: skip
NODES = [{"node": number, "cpus": f"{number * 32}-{number * 32 + 31}", "memory_mib": 512_000} for number in (0, 1)]
DISK = {"resources.disk_free_mib": 8_000_000}
# Model families and sizes that people serve, and one that no single host of most kinds holds.
MODELS = (
    "llama-3.2-3b-instruct-awq",
    "llama-3.1-8b-instruct",
    "gpt-oss-20b",
    "gemma-3-27b-it",
    "qwen3-30b-a3b",
    "qwen3-32b",
    "llama-3.3-70b-instruct",
    "deepseek-v3-0324",
)


def host(
    *cards: str,
    nodes: int = 1,
    peers: Mapping[int, Sequence[int]] | None = None,
    switched: bool = False,
    gpus: Mapping[int, Mapping[str, Any]] | None = None,
) -> Survey:
    """Return a prepared host of `KINDS`: `peers` are slots that NVLink joins directly, `gpus` what NVML says besides.

    With two nodes the first half of the cards is on node 0.
    """
    kinds = [KINDS[card] for card in cards]
    numa = [slot * nodes // len(cards) for slot in range(len(cards))]
    said = {
        "pci": [_pci(slot, kind, numa[slot]) for slot, kind in enumerate(kinds)],
        "nvml.gpus": [
            _nvml(slot, kind, (peers or {}).get(slot, ()), switched) | dict((gpus or {}).get(slot, {}))
            for slot, kind in enumerate(kinds)
        ],
        "nodes": NODES[:nodes],
        **DISK,
    }
    return parse(answer((), said), "gpu-1")


def _pci(slot: int, kind: Kind, node: int) -> dict[str, Any]:
    return {
        "address": address(slot),
        "vendor": "0x10de",
        "device": kind.device,
        "device_class": kind.device_class,
        "subsystem_vendor": "0x10de",
        "subsystem_device": "0x0000",
        "driver": "nvidia",
        "numa_node": node,
    }


def _nvml(slot: int, kind: Kind, peers: Sequence[int], switched: bool) -> dict[str, Any]:
    return {
        "index": slot,
        "uuid": uuid(slot),
        "name": kind.name,
        "address": address(slot),
        "memory_mib": kind.memory_mib,
        "reserved_mib": kind.reserved_mib,
        "free_mib": kind.memory_mib - kind.reserved_mib,
        "capability": kind.capability,
        "nvlinks": 18 if switched else 12 * bool(peers),
        "switched": switched,
        "peers": [address(peer) for peer in peers],
        "processes": [],
    }


def _sliced() -> Survey:
    profiles = (("3g.71gb", 71_424), ("2g.35gb", 35_584), ("2g.35gb", 35_584))
    slices = [
        {"uuid": f"MIG-{number:08d}", "profile": profile, "memory_mib": memory_mib, "free_mib": memory_mib}
        for number, (profile, memory_mib) in enumerate(profiles)
    ]
    return host("H200", gpus={0: {"mig": True, "slices": slices, "peers": None}})


def _busy() -> Survey:
    """Return two L40S; a process that is not ours holds 20 GiB of the second."""
    kind = KINDS["L40S"]
    held = 20_480
    process = {"pid": 4711, "mib": held, "unit": "trainer.service"}
    free = kind.memory_mib - kind.reserved_mib - held
    return host("L40S", "L40S", gpus={1: {"free_mib": free, "processes": [process]}})


PAIRS = {0: (1,), 1: (0,), 2: (3,), 3: (2,)}
HOSTS: dict[str, Survey] = {
    "1xP100": host("P100"),
    "1xT4": host("T4"),
    "1xL4": host("L4"),
    "1xA10G": host("A10G"),
    "3xA10G": host(*["A10G"] * 3),
    "2xRTX4090": host(*["RTX4090"] * 2),
    "4xL40S-two-nodes": host(*["L40S"] * 4, nodes=2),
    "2xL40S-one-in-use": _busy(),
    "4xA100-40-nvlink-pairs": host(*["A100-40"] * 4, nodes=2, peers=PAIRS),
    "8xA100-80-nvswitch": host(*["A100-80"] * 8, nodes=2, switched=True),
    "2xA100-80-and-2xL4": host("A100-80-PCIe", "A100-80-PCIe", "L4", "L4", nodes=2, peers={0: (1,), 1: (0,)}),
    "8xH100-nvswitch": host(*["H100"] * 8, nodes=2, switched=True),
    "1xH200": host("H200"),
    "1xH200-mig": _sliced(),
    "8xH200-nvswitch": host(*["H200"] * 8, nodes=2, switched=True),
    "8xB200-nvswitch": host(*["B200"] * 8, nodes=2, switched=True),
}


@cache
def spec(name: str) -> ModelSpec:
    """Return the spec of a model of the catalogue."""
    return find(name)


def wished(name: str, **changed: Any) -> Wishes:
    """Return what is wished where a catalogued model is to be served with nothing else said."""
    row, found = model(name), spec(name)
    weights = Weights(
        id=f"{name}@{row.revision[:12]}",
        name=name,
        revision=row.revision,
        source=f"hub:{row.hub_id}",
        directory=None,
        files=(),
    )
    made = wishes(model_name=name, driver_version=DRIVER, **changed)
    return replace(made, weights=weights, spec=found, spec_unknown="")
