"""What observations of a host say about the health of its GPUs: findings, how bad they are, and which ones block."""
