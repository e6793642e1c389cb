"""Write down a personality for the emulated libraries: "key value" lines, one file per host."""

from collections.abc import Iterator
from dataclasses import asdict

from rackhand.lab.personality import NVIDIA, Gpu, Personality


def render(personality: Personality, host_name: str) -> str:
    """Return nvml.conf: only what NVML would list on `host_name`, in PCI order."""
    visible = [gpu for gpu in personality.gpus if gpu.visible]
    lines = [
        f"count {len(visible)}",
        f"init_error {personality.nvml_init_error}",
        f"needs_fabric {int(personality.needs_fabric)}",
        *(f"switch {switch.address}" for switch in personality.nvswitches),
    ]
    for index, gpu in enumerate(sorted(visible, key=lambda gpu: gpu.address)):
        lines += [f"gpu.{index}.{key} {value}" for key, value in _facts(gpu, host_name)]
    return "\n".join(lines) + "\n"


def _facts(gpu: Gpu, host_name: str) -> Iterator[tuple[str, object]]:
    yield "name", gpu.model.nvml_name
    yield "uuid", gpu.uuid(host_name)
    if gpu.model.serial:
        yield "serial", int(gpu.uuid(host_name)[-12:], 16) % 10**13
    yield from _identity(gpu)
    yield from _abilities(gpu)
    for profile in gpu.model.mig_profiles:
        yield "profile", " ".join(str(value) for value in asdict(profile).values())
    ids = {profile.name: profile.id for profile in gpu.model.mig_profiles}
    for index, part in enumerate(gpu.slices):
        uuid = gpu.slice_uuid(host_name, index)
        name = f"{gpu.model.nvml_name} MIG {part.profile}"
        yield "slice", f"{index} {part.memory_mib} {part.compute_slices} {ids[part.profile]} 1 {uuid} {name}"
    for peer in gpu.peers:
        yield "peer", peer
    for process in gpu.processes:
        yield "process", f"{process.pid} {process.used_memory_mib} {int(process.graphics)}"


def _identity(gpu: Gpu) -> Iterator[tuple[str, object]]:
    model = gpu.model
    domain, bus, device = (int(part, 16) for part in gpu.address.split(".")[0].split(":"))
    yield from (("domain", domain), ("bus", bus), ("device", device))
    yield "pci_device_id", hex(model.device << 16 | NVIDIA)
    yield "pci_subsystem_id", hex(model.subsystem_device << 16 | NVIDIA)
    yield from (("brand", model.brand), ("architecture", model.architecture))
    yield from (("cc_major", model.compute_capability[0]), ("cc_minor", model.compute_capability[1]))


def _abilities(gpu: Gpu) -> Iterator[tuple[str, object]]:
    model = gpu.model
    yield from (("memory_mib", model.memory_mib), ("reserved_mib", model.reserved_memory_mib))
    yield from (("pcie_gen", model.pcie_generation), ("pcie_max_width", model.pcie_width))
    yield "pcie_width", gpu.pcie_width or model.pcie_width
    yield "numa_node", gpu.numa_node
    yield from (("nvlinks", model.nvlinks), ("nvlink_version", model.nvlink_version))
    yield "nvlinks_active", model.nvlinks if gpu.nvlinks_active is None else gpu.nvlinks_active
    yield from (("fabric", int(model.fabric)), ("p2p", int(model.peer_to_peer)))
    yield from (("ecc", int(model.ecc)), ("row_remapping", int(model.row_remapping)))
    yield from (("mig_max", model.mig_slices_max), ("lost", int(gpu.lost)))
    yield from (("power_mw", model.power_limit_mw), ("power_min_mw", model.power_limit_min_mw))
    yield "power_max_mw", model.power_limit_max_mw or model.power_limit_mw
    yield from ((name, int(value)) for name, value in asdict(gpu.ails).items())
