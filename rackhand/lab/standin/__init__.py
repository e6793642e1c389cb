"""A stand-in for vLLM on practice hosts: the same command, endpoints, metrics and ends, in a tenth of a second.

These modules are packed into a wheel named `vllm` (rackhand/lab/standin_wheel.py) and use the standard library only.
"""
