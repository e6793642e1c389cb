"""Where vLLM keeps its argument parser."""
