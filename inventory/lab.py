"""The practice fleet: two real systemd hosts on this machine, with emulated GPUs. `rackhand lab down` removes them."""

from rackhand.lab import practice

# What is known only on this machine; everything else that the hosts share is in group_data/lab.py.
lab = (
    [
        ("@lab/rack1", {"lab_personality": "1xH100", "gpu_count": 1, "gpu_model": "H100"}),
        ("@lab/rack2", {"lab_personality": "2xRTX4090", "gpu_count": 2, "gpu_model": "4090"}),
    ],
    practice.data("rack1"),
)
