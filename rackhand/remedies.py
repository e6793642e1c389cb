"""What to do next where NVML does not work, by the state that it says it is in."""

NVML = {
    "no-library": "run again; with driver_manage off install the driver",
    "not-loaded": "see the kernel log (dmesg | grep -i nvidia) on the host for why",
    "mismatch": "reboot the host",
    "lost": "look for Xid lines in the kernel log; reset the GPU, reboot or replace it",
    "no-permission": "see owner and mode of /dev/nvidia* on the host",
    "hangs": "look for Xid lines in the kernel log; the GPU needs a reset or a reboot",
    "crashed": "reinstall the driver; see the kernel log on the host",
}
OTHERWISE = "look it up in the kernel log (dmesg | grep NVRM) on the host"


def nvml(state: str) -> str:
    """Return the next step for a state other than ok."""
    return NVML.get(state, OTHERWISE)
