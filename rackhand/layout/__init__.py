"""How one host's GPUs are divided among instances: which GPUs, split how, on which port and CPUs, and why."""
