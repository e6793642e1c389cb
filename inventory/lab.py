"""The practice fleet: two hosts with emulated GPUs on this machine. `rackhand lab down` removes them."""

from rackhand.lab.environment import uv_environment

# Variables of uv on the hosts are known only here; everything else that both hosts share is in group_data/lab.py.
lab = (
    [
        ("@lab/rack1", {"lab_personality": "1xH100", "gpu_count": 1, "gpu_model": "H100"}),
        ("@lab/rack2", {"lab_personality": "2xRTX4090", "gpu_count": 2, "gpu_model": "4090"}),
    ],
    {"engine_uv_env": uv_environment()},
)
