"""The commands that vLLM registers with its parser: none needs registering here."""


def cmd_init() -> list[object]:
    """Return no commands."""
    return []
