"""Quoting for systemd's EnvironmentFile=, whose rules are a shell's but not quite (systemd.exec(5))."""

ESCAPED_IN_DOUBLE_QUOTES = '\\"`$'


def systemd_quote(value: str) -> str:
    """Quote a variable's value so that systemd reads it back unchanged, line breaks included.

    Raises ValueError, without repeating the value, for what no EnvironmentFile can hold: a NUL or a lone surrogate.
    """
    if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
        raise ValueError("an environment value holds a character that systemd does not take (NUL or a lone surrogate)")
    escaped = "".join(f"\\{character}" if character in ESCAPED_IN_DOUBLE_QUOTES else character for character in value)
    return f'"{escaped}"'
