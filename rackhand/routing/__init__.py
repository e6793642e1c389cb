"""Routers: what they know of GPU hosts, and the texts of their configuration. Pure."""
