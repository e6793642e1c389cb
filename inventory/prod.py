"""The production fleet: copy the shape, put in your own hosts. Start with docs/how-to/first-production-host.md.

Every list in this file is a group; names that begin with `_` are not. When groups disagree, the one defined last wins,
so the broad ones come first. No secrets here: `pyinfra inventory/prod.py debug-inventory` prints everything.
"""

_a = ["gpu-a1.example.net", "gpu-a2.example.net"]
_b = [
    ("gpu-b1", {"ssh_hostname": "10.20.0.11"}),
    ("gpu-b2", {"ssh_hostname": "10.20.0.12", "serve_port": 9000}),  # 8000 is taken on this one
]

# All hosts: how to reach them. Only keys listed in known_hosts are believed; ssh_config names the jump host.
prod = (
    [*_a, *_b],
    {
        "ssh_user": "root",
        "ssh_config_file": "inventory/ssh_config",
        "ssh_known_hosts_file": "inventory/known_hosts",
        "ssh_strict_host_key_checking": "yes",
    },
)

# One group per kind of GPU: what must be there, and what it serves.
h100 = (
    [*_a],
    {
        "gpu_count": 8,
        "gpu_model": "H100",
        "model_name": "llama-3.3-70b",
        "model_path": "/srv/models/llama-3.3-70b-fp8",
        "serve_max_model_len": 32_768,
    },
)
l4 = (
    [host for host, _ in _b],
    {
        "gpu_count": 2,
        "gpu_model": "L4",
        "model_name": "qwen2.5-7b",
        "model_hub_id": "Qwen/Qwen2.5-7B-Instruct",
        "model_revision": "a09a35458c702b33eeacc393d103063234e8bc28",
        "serve_max_model_len": 16_384,
    },
)

# Tries everything first: `pyinfra inventory/prod.py deploy.py --limit canary`.
canary = ["gpu-a1.example.net", "gpu-b1"]
