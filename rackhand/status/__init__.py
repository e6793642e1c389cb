"""How a fleet stands: what hosts said, what of it is a drift, and the verdict. Pure."""
