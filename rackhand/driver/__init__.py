"""Which driver a host should have and what it takes to get there, or why not. Pure."""
