"""Is it well, and why is it slow: what was seen of a running engine in, findings with their numbers out."""
