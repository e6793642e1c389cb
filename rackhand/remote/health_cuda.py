"""Whether CUDA starts: cuInit, asked of the driver's own library without any toolkit. Runs in a throw-away process."""

from __future__ import annotations

import ctypes
from typing import Any

LIBRARY = "libcuda.so.1"


def init() -> dict[str, Any]:
    """Return `state` (ok, no-library, failed), CUDA's result `code`, its name, and how many devices CUDA shows."""
    nothing = {"code": 0, "name": "", "devices": 0, "detail": ""}
    try:
        cuda = ctypes.CDLL(LIBRARY)
    except OSError as error:
        return {**nothing, "state": "no-library", "detail": str(error)}
    count = ctypes.c_int()
    code = cuda.cuInit(0) or cuda.cuDeviceGetCount(ctypes.byref(count))
    return {
        **nothing,
        "state": "failed" if code else "ok",
        "code": code,
        "name": _name(cuda, code),
        "devices": count.value,
    }


def _name(cuda: ctypes.CDLL, code: int) -> str:
    """Return CUDA's own name of a result; empty for success and where the library has none."""
    text = ctypes.c_char_p()
    if not code or not hasattr(cuda, "cuGetErrorName") or cuda.cuGetErrorName(code, ctypes.byref(text)):
        return ""
    return (text.value or b"").decode(errors="replace")
