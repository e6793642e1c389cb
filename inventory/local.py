"""This machine, without SSH: `pyinfra inventory/local.py deploy.py --data model_name=… --data model_path=…`."""

hosts = ["@local"]
