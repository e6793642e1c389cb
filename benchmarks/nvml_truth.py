"""Record what our probe, nvidia-smi and the driver say of the same GPUs, on a host that has some.

Run there: `python3 benchmarks/nvml_truth.py FOLDER` (needs nvidia-ml-py and nothing else). `tests/test_nvml_truth.py`
holds the recorded files against each other. Raw answers are kept too: type, value or error code of each call.
"""

import argparse
import ctypes
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import pynvml

from rackhand.remote import gpu, health_cuda, health_nvml, nvml

# What the probes ask of a GPU, for its facts and for its health; arguments after the handle.
CALLS: tuple[tuple[str, tuple[Any, ...]], ...] = (
    ("nvmlDeviceGetUUID", ()),
    ("nvmlDeviceGetName", ()),
    ("nvmlDeviceGetPciInfo", ()),
    ("nvmlDeviceGetMemoryInfo", (pynvml.nvmlMemory_v2,)),
    ("nvmlDeviceGetCudaComputeCapability", ()),
    ("nvmlDeviceGetMigMode", ()),
    ("nvmlDeviceGetMaxMigDeviceCount", ()),
    ("nvmlDeviceGetMigDeviceHandleByIndex", (0,)),
    *(("nvmlDeviceGetGpuInstanceProfileInfo", (number,)) for number in (0, 1, 2, 4, 5, 7, 17)),
    ("nvmlDeviceGetEccMode", ()),
    ("nvmlDeviceGetPowerManagementLimit", ()),
    ("nvmlDeviceGetComputeRunningProcesses", ()),
    ("nvmlDeviceGetNvLinkState", (0,)),
    ("nvmlDeviceGetNvLinkState", (17,)),
    ("nvmlDeviceGetNvLinkState", (18,)),
    ("nvmlDeviceGetNvLinkRemoteDeviceType", (0,)),
    ("nvmlDeviceGetNvLinkRemotePciInfo", (0,)),
    ("nvmlDeviceGetRemappedRows", ()),
    ("nvmlDeviceGetRetiredPagesPendingStatus", ()),
    ("nvmlDeviceGetTotalEccErrors", (1, 0)),
    ("nvmlDeviceGetTotalEccErrors", (1, 1)),
    ("nvmlDeviceGetCurrPcieLinkGeneration", ()),
    ("nvmlDeviceGetMaxPcieLinkGeneration", ()),
    ("nvmlDeviceGetCurrPcieLinkWidth", ()),
    ("nvmlDeviceGetMaxPcieLinkWidth", ()),
    ("nvmlDeviceGetCurrentClocksEventReasons", ()),
    ("nvmlDeviceGetPersistenceMode", ()),
    ("nvmlDeviceGetPowerManagementLimitConstraints", ()),
    ("nvmlDeviceGetPowerManagementDefaultLimit", ()),
    ("nvmlDeviceGetMinorNumber", ()),
    ("nvmlDeviceGetVbiosVersion", ()),
    ("nvmlDeviceGetGraphicsRunningProcesses", ()),
    ("nvmlDeviceGetUtilizationRates", ()),
    ("nvmlDeviceGetPcieReplayCounter", ()),
    ("nvmlDeviceGetTemperature", (pynvml.NVML_TEMPERATURE_GPU,)),
    ("nvmlDeviceGetComputeMode", ()),
)
FIELDS = (pynvml.NVML_FI_DEV_GET_GPU_RECOVERY_ACTION,)
# Calls that fill a structure which is handed in: by reference, for the library writes where it should not otherwise.
FILLED: tuple[tuple[str, type[ctypes.Structure]], ...] = (
    ("nvmlDeviceGetSramEccErrorStatus", pynvml.c_nvmlEccSramErrorStatus_v1_t),
    ("nvmlDeviceGetGpuFabricInfo", pynvml.c_nvmlGpuFabricInfo_t),
    ("nvmlDeviceGetGpuFabricInfoV", pynvml.c_nvmlGpuFabricInfo_v2_t),
    ("nvmlDeviceGetGpuFabricInfoV", pynvml.c_nvmlGpuFabricInfo_v3_t),
)
SYSTEM = ("nvmlSystemGetDriverVersion", "nvmlSystemGetCudaDriverVersion_v2", "nvmlDeviceGetCount")


def main() -> None:
    """Write probe.json, health.json, nvidia-smi.xml, calls.json and cuda.json into the folder."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, help="where to put what was said")
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "probe.json", {"driver": gpu.driver(), "nvml": nvml.probe()})
    shown = subprocess.run(["nvidia-smi", "-q", "-x"], capture_output=True, text=True, check=True)
    (folder / "nvidia-smi.xml").write_text(shown.stdout)
    _write(folder / "calls.json", calls())
    # Last: CUDA, once started in this process, takes memory of the card for itself.
    _write(folder / "health.json", {"nvml": health_nvml.probe(fabric_s=0), "cuda": health_cuda.init()})
    _write(folder / "cuda.json", cuda())


def calls() -> list[dict[str, Any]]:
    """Return what each call answers for the first GPU, and for a GPU that is not there."""
    pynvml.nvmlInit()
    try:
        found = [{"call": name, "arguments": [], **_answer(getattr(pynvml, name))} for name in SYSTEM]
        handle = pynvml.nvmlDeviceGetHandleByIndex(0)
        for name, arguments in CALLS:
            found.append({"call": name, "arguments": list(arguments), **_asked(name, handle, arguments)})
        for field in FIELDS:
            asked = _asked("nvmlDeviceGetFieldValues", handle, ([field],))
            found.append({"call": "nvmlDeviceGetFieldValues", "arguments": [field], **asked})
        for name, form in FILLED:
            found.append({"call": name, "arguments": [form.__name__], **_filled(name, handle, form)})
        address = pynvml.nvmlDeviceGetPciInfo(handle).busId.lower()[-12:]
        by_address = _answer(lambda: pynvml.nvmlDeviceGetUUID(pynvml.nvmlDeviceGetHandleByPciBusId(address)))
        found.append({"call": "nvmlDeviceGetHandleByPciBusId", "arguments": [address], **by_address})
        found.append({"call": "nvmlDeviceGetHandleByIndex", "arguments": [99], **_answer(_beyond)})
        return found
    finally:
        pynvml.nvmlShutdown()


def cuda() -> dict[str, int]:
    """Initialise CUDA as an engine does: the result, and how many devices it sees."""
    library, count = ctypes.CDLL("libcuda.so.1"), ctypes.c_int(-1)
    result = library.cuInit(0)
    return {"cuInit": result, "cuDeviceGetCount": library.cuDeviceGetCount(ctypes.byref(count)), "count": count.value}


def _beyond() -> object:
    return pynvml.nvmlDeviceGetHandleByIndex(99)


def _asked(name: str, handle: object, arguments: tuple[Any, ...]) -> dict[str, Any]:
    function = getattr(pynvml, name, None)
    if function is None:
        return {"error": "not in this nvidia-ml-py"}
    return _answer(lambda: function(handle, *arguments))


def _filled(name: str, handle: object, form: type[ctypes.Structure]) -> dict[str, Any]:
    filled = form()
    asked = _asked(name, handle, (ctypes.byref(filled),))
    return asked if "error" in asked else {"type": form.__name__, "value": _plain(filled)}


def _answer(read: Callable[[], Any]) -> dict[str, Any]:
    try:
        value = read()
    except pynvml.NVMLError as error:
        return {"error": int(error.value)}
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}
    return {"type": type(value).__name__, "value": _plain(value)}


def _plain(value: Any) -> Any:
    if isinstance(value, (ctypes.Structure, ctypes.Union)):
        return {name: _plain(getattr(value, name)) for name, *_ in value._fields_}
    if isinstance(value, (list, tuple, ctypes.Array)):
        return [_plain(each) for each in value]
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return value if isinstance(value, (int, float, str, type(None))) else repr(type(value).__name__)


def _write(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
