"""What systemd_quote writes is what systemd reads."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rackhand.envfile import systemd_quote

VALUES = st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


def systemd_reads(text: str) -> dict[str, str]:
    """Read assignments as systemd's env-file parser does inside double quotes (systemd.exec(5), EnvironmentFile=)."""
    variables: dict[str, str] = {}
    rest = text
    while rest:
        name, _, rest = rest.partition('="')
        value, rest = _quoted(rest)
        assert rest.startswith("\n")
        variables[name], rest = value, rest[1:]
    return variables


def _quoted(text: str) -> tuple[str, str]:
    value, position = "", 0
    while text[position] != '"':
        if text[position] == "\\":
            position += 1
            kept = "" if text[position] in '"\\`$\n' else "\\"
            value += kept + text[position].replace("\n", "")
        else:
            value += text[position]
        position += 1
    return value, text[position + 1 :]


@given(VALUES)
@example("")
@example("a b  # not a comment ; nor this")
@example("back\\slash \\n and 'single' and \"double\" and `tick` and $HOME and ${X} and %i")
@example("line\nbreak\r\nand\ttab ")
@example("schlüssel ☃ \U0001f600")
def test_any_value_comes_back_unchanged(value: str) -> None:
    assert systemd_reads(f"A={systemd_quote(value)}\nB={systemd_quote('end')}\n") == {"A": value, "B": "end"}


@pytest.mark.parametrize("value", ["secret\0", "secret\ud800"])
def test_what_no_file_can_hold_is_refused_without_showing_it(value: str) -> None:
    with pytest.raises(ValueError, match="does not take") as refused:
        systemd_quote(value)
    assert "secret" not in str(refused.value)
