"""Where vLLM keeps its commands."""
