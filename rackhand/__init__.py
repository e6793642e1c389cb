"""rackhand turns bare GPU hosts into healthy vLLM servers."""

__version__ = "0.1.0"
