"""Where vLLM keeps the commands of its command line."""
