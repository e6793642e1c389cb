"""The real nvidia-ml-py drives the emulated libnvidia-ml.so.1 in a process of its own."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rackhand import payload
from rackhand.lab import nvml, personality
from rackhand.lab.nvml import conf
from rackhand.lab.personality import Ailments, Personality, Process

VERSION = "580.126.20"
PREAMBLE = """
import ctypes, json, pynvml as n
def attempt(call, *args):
    try:
        return call(*args)
    except n.NVMLError as error:
        return type(error).__name__
"""


class Host:
    """A directory that stands for one host's /etc, /proc and /run."""

    def __init__(self, root: Path, machine: Personality) -> None:
        self.root = root
        self.libraries = nvml.build(VERSION, 13000)
        self.write(machine)
        self.load(VERSION)

    def write(self, machine: Personality) -> None:
        (self.root / "nvml.conf").write_text(conf.render(machine, "gpu-01"))

    def load(self, version: str | None) -> None:
        path = self.root / "version"
        path.unlink(missing_ok=True)
        if version:
            path.write_text(f"NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  {version}  Release Build\n")

    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "LD_LIBRARY_PATH": str(self.libraries.nvml.parent),
            "RACKHAND_LAB_NVML_CONF": str(self.root / "nvml.conf"),
            "RACKHAND_LAB_NVIDIA_VERSION": str(self.root / "version"),
            "RACKHAND_LAB_FABRIC_READY": str(self.root / "fabric-ready"),
            "RACKHAND_LAB_NVML_SET": str(self.root / "set.conf"),
            "RACKHAND_LAB_INFOROM": str(self.root / "inforom.conf"),
        }

    def run(self, program: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-c", PREAMBLE + program]
        return subprocess.run(argv, env=self.environment(), capture_output=True, text=True, timeout=30, check=False)

    def ask(self, expression: str) -> Any:
        """Return the value of `expression` after nvmlInit; `h` is the first GPU."""
        done = self.run(
            "n.nvmlInit()\n"
            "h = n.nvmlDeviceGetHandleByIndex(0) if n.nvmlDeviceGetCount() else None\n"
            f"print(json.dumps({expression}))"
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def probe(self) -> Any:
        """Return what the product's own probe says, as it would on the host."""
        return self.load_and_run(payload.nvml_probe())["gpus"]

    def set(self, modes: dict[str, dict[str, Any]]) -> Any:
        """Return what the product's own setter says that it could not set."""
        return self.load_and_run(payload.gpu_modes(modes))

    def load_and_run(self, text: str) -> Any:
        argv = [sys.executable, "-c", payload.LOADER]
        done = subprocess.run(argv, input=text.encode(), env=self.environment(), capture_output=True, check=True)
        return json.loads(done.stdout)["result"]

    def init(self) -> str:
        return self.run("print(attempt(n.nvmlInit))").stdout.strip()


def host(tmp_path: Path, name: str) -> Host:
    return Host(tmp_path, personality.load(name))


@pytest.mark.parametrize(
    ("name", "gpus"),
    [
        ("none", []),
        ("1xH100", ["NVIDIA H100 80GB HBM3"]),
        ("8xH100-nvswitch", ["NVIDIA H100 80GB HBM3"] * 8),
        ("2xRTX4090", ["NVIDIA GeForce RTX 4090"] * 2),
        ("4xmixed", ["NVIDIA L4", "NVIDIA L4", "Tesla T4", "NVIDIA A10"]),
        ("1xH200-mig", ["NVIDIA H200"]),
        ("4xA100-nvlink-pairs", ["NVIDIA A100 80GB PCIe"] * 4),
        ("4xA10-two-sockets", ["NVIDIA A10"] * 4),
    ],
)
def test_nvml_lists_the_gpus_of_the_personality(tmp_path: Path, name: str, gpus: list[str]) -> None:
    names = "[n.nvmlDeviceGetName(n.nvmlDeviceGetHandleByIndex(i)) for i in range(n.nvmlDeviceGetCount())]"
    assert host(tmp_path, name).ask(names) == gpus


def test_versions_are_those_of_the_packaged_driver(tmp_path: Path) -> None:
    asked = "[n.nvmlSystemGetDriverVersion(), n.nvmlSystemGetNVMLVersion(), n.nvmlSystemGetCudaDriverVersion()]"
    assert host(tmp_path, "1xH100").ask(asked) == [VERSION, f"13.{VERSION}", 13000]


def test_a_gpu_is_found_by_its_uuid_and_by_its_bus_id(tmp_path: Path) -> None:
    machine = host(tmp_path, "4xmixed")
    uuid = personality.load("4xmixed").gpus[2].uuid("gpu-01")
    assert machine.ask(f"n.nvmlDeviceGetIndex(n.nvmlDeviceGetHandleByUUID({uuid!r}))") == 2
    assert machine.ask("n.nvmlDeviceGetUUID(n.nvmlDeviceGetHandleByPciBusId('0000:b1:00.0'))") == uuid
    assert machine.ask("attempt(n.nvmlDeviceGetHandleByPciBusId, '0000:01:00.0')") == "NVMLError_NotFound"
    assert machine.ask("attempt(n.nvmlDeviceGetHandleByIndex, 4)") == "NVMLError_InvalidArgument"


def test_an_h100_answers_like_an_h100(tmp_path: Path) -> None:
    asked = """[
        n.nvmlDeviceGetCudaComputeCapability(h), n.nvmlDeviceGetArchitecture(h), n.nvmlDeviceGetBrand(h),
        n.nvmlDeviceGetPciInfo(h).busId, n.nvmlDeviceGetPciInfo(h).busIdLegacy, n.nvmlDeviceGetPciInfo(h).pciDeviceId,
        n.nvmlDeviceGetMaxPcieLinkGeneration(h), n.nvmlDeviceGetCurrPcieLinkWidth(h),
        n.nvmlDeviceGetPowerManagementLimitConstraints(h), n.nvmlDeviceGetEccMode(h),
        n.nvmlDeviceGetTotalEccErrors(h, 1, 0),
        n.nvmlDeviceGetRemappedRows(h), attempt(n.nvmlDeviceGetRetiredPagesPendingStatus, h), n.nvmlDeviceGetMigMode(h),
        len(n.nvmlDeviceGetSerial(h)) > 8, n.nvmlDeviceGetTemperature(h, 0),
        n.nvmlDeviceGetCurrentClocksEventReasons(h),
        n.nvmlDeviceGetUtilizationRates(h).gpu, n.nvmlDeviceGetComputeMode(h), n.nvmlDeviceGetPersistenceMode(h)]"""
    assert host(tmp_path, "1xH100").ask(asked) == [
        *([9, 0], 9, 14, "00000000:18:00.0", "0000:18:00.0", 0x233010DE, 5, 16, [200000, 700000], [1, 1], 0),
        *([0, 0, 0, 0], "NVMLError_NotSupported", [0, 0], True, 34, 1, 0, 0, 0),
    ]


def test_memory_v1_counts_what_the_driver_reserves_as_used_and_v2_does_not(tmp_path: Path) -> None:
    memories = "(n.nvmlDeviceGetMemoryInfo(h), n.nvmlDeviceGetMemoryInfo(h, n.nvmlMemory_v2))"
    asked = f"[[m.total, m.used, m.free] for m in {memories}]"
    first, second = host(tmp_path, "1xH100").ask(asked)
    mib = 1024 * 1024
    assert first == [81559 * mib, 551 * mib, 81008 * mib]
    assert second == [81559 * mib, 0, 81008 * mib]


def test_a_geforce_says_not_supported_where_a_geforce_does(tmp_path: Path) -> None:
    calls = ("EccMode", "RemappedRows", "RetiredPagesPendingStatus", "Serial", "MigMode", "NumaNodeId")
    asked = "[" + ", ".join(f"attempt(n.nvmlDeviceGet{call}, h)" for call in calls) + "]"
    assert host(tmp_path, "2xRTX4090").ask(asked) == ["NVMLError_NotSupported"] * 6


def test_a_function_that_is_not_emulated_is_not_found(tmp_path: Path) -> None:
    assert host(tmp_path, "1xL4").ask("attempt(n.nvmlDeviceGetInforomImageVersion, h)") == "NVMLError_FunctionNotFound"


def test_hgx_links_topology_and_peers(tmp_path: Path) -> None:
    machine = host(tmp_path, "8xH100-nvswitch")
    asked = """[
        sum(n.nvmlDeviceGetNvLinkState(h, i) for i in range(18)), attempt(n.nvmlDeviceGetNvLinkState, h, 18),
        n.nvmlDeviceGetTopologyCommonAncestor(h, n.nvmlDeviceGetHandleByIndex(1)),
        n.nvmlDeviceGetTopologyCommonAncestor(h, n.nvmlDeviceGetHandleByIndex(4)),
        attempt(n.nvmlDeviceGetTopologyCommonAncestor, h, h),
        n.nvmlDeviceGetP2PStatus(h, n.nvmlDeviceGetHandleByIndex(7), n.NVML_P2P_CAPS_INDEX_NVLINK)]"""
    assert machine.ask(asked) == [18, "NVMLError_InvalidArgument", 30, 50, "NVMLError_NotSupported", 0]


def test_a_bridge_leads_to_its_other_end_and_a_switch_to_the_switch(tmp_path: Path) -> None:
    ends = "[[n.nvmlDeviceGetNvLinkRemoteDeviceType(h, i), n.nvmlDeviceGetNvLinkRemotePciInfo(h, i).busId]"
    assert host(tmp_path, "4xA100-nvlink-pairs").ask(f"{ends} for i in (0, 11)]") == [[0, "00000000:31:00.0"]] * 2
    assert host(tmp_path, "8xH100-nvswitch").ask(f"{ends} for i in (0, 5)]") == [
        [2, "00000000:05:00.0"],
        [2, "00000000:06:00.0"],
    ]
    asked = "[attempt(n.nvmlDeviceGetNvLinkRemotePciInfo, h, 0), attempt(n.nvmlDeviceGetNvLinkRemoteDeviceType, h, 0)]"
    assert host(tmp_path, "2xRTX4090").ask(asked) == ["NVMLError_NotSupported"] * 2
    peers = (
        "[n.nvmlDeviceGetP2PStatus(h, n.nvmlDeviceGetHandleByIndex(i), n.NVML_P2P_CAPS_INDEX_NVLINK) for i in (1, 2)]"
    )
    assert host(tmp_path, "4xA100-nvlink-pairs").ask(peers) == [0, 5]


@pytest.mark.parametrize(
    ("name", "links", "switched", "peers"),
    [
        ("8xH100-nvswitch", 18, True, []),
        ("8xA100-nvswitch", 12, True, []),
        ("4xA100-nvlink-pairs", 12, False, ["0000:31:00.0"]),
        ("4xA10-two-sockets", 0, False, []),
        ("2xRTX4090", 0, False, []),
        ("1xH100", 0, False, []),
        ("1xH200-mig", 0, False, []),
    ],
)
def test_the_probe_tells_what_is_linked(
    tmp_path: Path, name: str, links: int, switched: bool, peers: list[str]
) -> None:
    first = host(tmp_path, name).probe()[0]
    assert (first["nvlinks"], first["switched"], first["peers"]) == (links, switched, peers)


def test_the_probe_tells_slices_and_processes(tmp_path: Path) -> None:
    (card,) = host(tmp_path, "1xH200-mig").probe()
    assert card["mig"]
    assert [(each["profile"], each["memory_mib"]) for each in card["slices"]] == [
        ("3g.71gb", 71424),
        ("2g.35gb", 35584),
        ("2g.35gb", 35584),
    ]
    busy = personality.load("1xL4").with_gpu(0, processes=(Process(pid=4_194_305, used_memory_mib=1000),))
    (card,) = Host(tmp_path, busy).probe()
    assert card["slices"] == []
    assert card["processes"] == [{"pid": 4_194_305, "mib": 1000, "unit": ""}]


@pytest.mark.parametrize("version", ["v2", "v3"])
def test_the_fabric_completes_when_the_fabric_manager_is_ready(tmp_path: Path, version: str) -> None:
    machine = host(tmp_path, "8xH100-nvswitch")
    info = f"n.c_nvmlGpuFabricInfo_{version}_t()"
    asked = f"(lambda i: [n.nvmlDeviceGetGpuFabricInfoV(h, ctypes.byref(i)), i.state, i.status])({info})"
    assert machine.ask(asked) == [0, 1, 0]
    (tmp_path / "fabric-ready").touch()
    assert machine.ask(asked) == [0, 3, 0]


def test_cards_of_before_hopper_have_no_part_of_their_own_in_the_fabric(tmp_path: Path) -> None:
    asked = "(lambda i: [n.nvmlDeviceGetGpuFabricInfoV(h, ctypes.byref(i)), i.state])(n.c_nvmlGpuFabricInfo_v3_t())"
    (tmp_path / "fabric-ready").touch()
    assert host(tmp_path, "8xA100-nvswitch").ask(asked) == [0, 0]


@pytest.mark.parametrize("name", ["8xH100-nvswitch", "8xA100-nvswitch"])
def test_cuda_waits_for_the_fabric_with_error_802(tmp_path: Path, name: str) -> None:
    machine = host(tmp_path, name)
    program = (
        "c = ctypes.CDLL('libcuda.so.1')\nk = ctypes.c_int()\n"
        "print(c.cuInit(0), c.cuDeviceGetCount(ctypes.byref(k)), k.value)"
    )
    assert machine.run(program).stdout.split() == ["802", "3", "0"]
    (tmp_path / "fabric-ready").touch()
    assert machine.run(program).stdout.split() == ["0", "0", "8"]


def test_cuda_without_a_device_says_100_and_with_another_module_803(tmp_path: Path) -> None:
    machine = host(tmp_path, "none")
    program = "print(ctypes.CDLL('libcuda.so.1').cuInit(0))"
    assert machine.run(program).stdout.strip() == "100"
    machine.load("580.95.05")
    assert machine.run(program).stdout.strip() == "803"


def test_mig_slices_have_their_own_name_uuid_and_memory(tmp_path: Path) -> None:
    asked = """[
        n.nvmlDeviceGetMigMode(h), n.nvmlDeviceGetMaxMigDeviceCount(h),
        [[n.nvmlDeviceGetName(s), n.nvmlDeviceGetUUID(s), n.nvmlDeviceGetMemoryInfo(s).total >> 20]
         for s in (n.nvmlDeviceGetMigDeviceHandleByIndex(h, i) for i in range(3))],
        attempt(n.nvmlDeviceGetMigDeviceHandleByIndex, h, 3),
        n.nvmlDeviceGetIndex(
            n.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(n.nvmlDeviceGetMigDeviceHandleByIndex(h, 1)))]"""
    mode, most, slices, after, parent = host(tmp_path, "1xH200-mig").ask(asked)
    assert (mode, most, after, parent) == ([1, 1], 7, "NVMLError_NotFound", 0)
    assert [row[0] for row in slices] == [f"NVIDIA H200 MIG {p}" for p in ("3g.71gb", "2g.35gb", "2g.35gb")]
    assert [row[2] for row in slices] == [71424, 35584, 35584]
    assert len({row[1] for row in slices}) == 3


def test_processes_are_listed_by_kind_and_use_memory(tmp_path: Path) -> None:
    busy = personality.load("1xL4").with_gpu(
        0, processes=(Process(pid=41, used_memory_mib=1000), Process(pid=42, used_memory_mib=24, graphics=True))
    )
    asked = """[
        [p.pid for p in n.nvmlDeviceGetComputeRunningProcesses(h)],
        [(p.pid, p.usedGpuMemory >> 20) for p in n.nvmlDeviceGetGraphicsRunningProcesses(h)],
        [p.pid for p in n.nvmlDeviceGetMPSComputeRunningProcesses(h)],
        n.nvmlDeviceGetMemoryInfo(h, n.nvmlMemory_v2).used >> 20]"""
    assert Host(tmp_path, busy).ask(asked) == [[41], [[42, 24]], [], 1024]


def test_field_values_carry_their_own_verdicts(tmp_path: Path) -> None:
    asked = "[[v.nvmlReturn, v.value.uiVal] for v in n.nvmlDeviceGetFieldValues(h, [230, 91, 82])]"
    assert host(tmp_path, "8xH100-nvswitch").ask(asked) == [[0, 0], [0, 18], [3, 0]]


def test_error_9_when_no_module_is_loaded(tmp_path: Path) -> None:
    machine = host(tmp_path, "1xH100")
    machine.load(None)
    assert machine.init() == "NVMLError_DriverNotLoaded"


def test_error_18_when_another_module_is_loaded(tmp_path: Path) -> None:
    machine = host(tmp_path, "1xH100")
    machine.load("580.95.05")
    assert machine.init() == "NVMLError_LibRmVersionMismatch"


def test_error_12_when_the_library_is_not_installed(tmp_path: Path) -> None:
    machine = host(tmp_path, "1xH100")
    machine.libraries = replace(machine.libraries, nvml=tmp_path / "nowhere" / "libnvidia-ml.so.1")
    assert machine.init() == "NVMLError_LibraryNotFound"


@pytest.mark.parametrize("changes", [{"lost": True}, {"ails": Ailments(reset_required=True)}])
def test_the_probe_names_the_card_that_does_not_work_and_reads_the_others(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    cards = Host(tmp_path, personality.load("8xH100-nvswitch").with_gpu(3, **changes)).probe()
    assert [card["lost"] for card in cards] == [index == 3 for index in range(8)]
    assert cards[3]["detail"]


def test_error_15_for_the_lost_gpu_alone(tmp_path: Path) -> None:
    machine = Host(tmp_path, personality.load("8xH100-nvswitch").with_gpu(3, lost=True))
    index = "attempt(lambda i: n.nvmlDeviceGetIndex(n.nvmlDeviceGetHandleByIndex(i)), i)"
    asked = f"[{index} for i in range(n.nvmlDeviceGetCount())]"
    assert machine.ask(asked) == [0, 1, 2, "NVMLError_GpuIsLost", 4, 5, 6, 7]


def test_a_gpu_that_is_on_the_bus_but_not_in_nvml_is_not_counted(tmp_path: Path) -> None:
    assert Host(tmp_path, personality.load("4xmixed").with_gpu(0, in_nvml=False)).ask("n.nvmlDeviceGetCount()") == 3


def test_the_open_module_finds_no_device_on_a_p100_host(tmp_path: Path) -> None:
    assert host(tmp_path, "1xP100").ask("n.nvmlDeviceGetCount()") == 0


def test_a_personality_can_break_init_with_any_code(tmp_path: Path) -> None:
    assert Host(tmp_path, personality.load("1xL4").with_init_error(999)).init() == "NVMLError_Unknown"
