"""The types of settings, and what to tell a person about each of them.

A description replaces a pattern in errors and in the settings reference; a bound on a number speaks for itself.
"""

import types
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import Field
from pydantic.fields import FieldInfo

Seconds = Annotated[int, Field(ge=1, le=86_400)]
Pause = Annotated[int, Field(ge=0, le=86_400)]
Count = Annotated[int, Field(ge=0, le=10_000)]
Port = Annotated[int, Field(ge=1024, le=65535)]
AnyPort = Annotated[int, Field(ge=1, le=65535)]
Auto = Literal["auto"]
Few = Annotated[int, Field(ge=1, le=64)]
Watts = Annotated[int, Field(ge=1, le=10_000)]
# "all", part of a card's name, or an address on the PCI bus.
WattsByCard = Annotated[
    dict[str, Watts], Field(description="a dictionary from part of a card's name, a PCI address or 'all' to watts")
]
MigProfileName = Annotated[
    str, Field(pattern=r"^[0-9]+g\.[0-9]+gb([+-][a-z.]+)?$", description="a profile such as '3g.71gb'")
]
MigByCard = Annotated[
    dict[str, Literal["off"] | Annotated[list[MigProfileName], Field(min_length=1)]],
    Field(description="a dictionary from part of a card's name, a PCI address or 'all' to 'off' or to ['3g.71gb', …]"),
]
Share = Annotated[float, Field(ge=0.05, le=0.95)]
Scalar = bool | int | float | str
OptionValue = Annotated[
    Scalar | list[Scalar] | dict[str, Any],
    Field(description="True, False, a number, text, a list of these, or a dictionary"),
]

WaveSize = (
    Annotated[int, Field(ge=1, le=10_000)]
    | Annotated[str, Field(pattern=r"^([1-9][0-9]?|100)%$", description="a percentage as text, such as '25%'")]
)
HeaderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9-]+$", max_length=64, description="the name of an HTTP header")]

Address = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9:][A-Za-z0-9.:_-]*$", description="an IP address or the name of a host")
]
AbsolutePath = Annotated[
    str, Field(pattern=r"^/[A-Za-z0-9@%+=:,./_-]+$", description="an absolute path without spaces")
]

Name = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        max_length=64,
        description="a name of letters, digits, '.', '_' and '-', at most 64 characters",
    ),
]
Branch = Annotated[
    str, Field(pattern=r"^[0-9]{3}$", description="a driver branch of three digits as text, such as '580'")
]
DriverVersion = Annotated[
    str, Field(pattern=r"^[0-9]{3}\.[0-9]+(\.[0-9]+)?$", description="a driver version as text, such as '580.95.05'")
]
EngineVersion = Annotated[
    str,
    Field(
        pattern=r"^[0-9]+\.[0-9]+\.[0-9]+(\.?(post|rc)[0-9]+)?$",
        description="an exact vLLM version as text, such as '0.33.0'",
    ),
]
PythonVersion = Annotated[str, Field(pattern=r"^3\.[0-9]+$", description="a Python version as text, such as '3.12'")]
BaseUrl = Annotated[
    str, Field(pattern=r"^https?://.+[^/]$", description="an http:// or https:// address without a final slash")
]
Fingerprint = Annotated[
    str,
    Field(pattern=r"^[0-9A-F]{40}$", description="a key fingerprint of 40 upper-case hexadecimal digits, no spaces"),
]
Url = Annotated[str, Field(pattern=r"^https?://[^\s]+$", description="an http:// or https:// address")]
HubId = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+$", description="a hub name of the form 'owner/name'")
]
Revision = Annotated[str, Field(pattern=r"^[0-9a-f]{12,64}$", description="a commit of 12 to 64 hexadecimal digits")]
EnvironmentName = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*$",
        description="the name of an environment variable (letters, digits and '_', no digit first)",
    ),
]
OptionName = Annotated[
    str,
    Field(
        pattern=r"^[a-z0-9][a-z0-9-]*$",
        description="the name of a vLLM option, lower case with dashes and without the leading --",
    ),
]

FindingCode = Annotated[
    str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)+$", description="the code of a finding, such as 'xid-79'")
]
SeverityOrCode = Annotated[
    str,
    Field(
        pattern=r"^(info|warning|error|fatal|[a-z0-9]+(-[a-z0-9]+)+)$",
        description="'info', 'warning', 'error', 'fatal', or the code of a finding",
    ),
]


def dashed(options: Any) -> Any:
    """Write the names of vLLM's options with dashes, as it takes them in either form."""
    if not isinstance(options, dict):
        return options
    return {name.replace("_", "-") if isinstance(name, str) else name: value for name, value in options.items()}


# Narrow on purpose: a token pasted here must not pass for a variable or a file, because sources are named in errors.
SecretSource = Annotated[
    str,
    Field(
        pattern=r"^(env:[A-Z_][A-Z0-9_]*|file:(/|~/|\.{1,2}/)[^\n]+)$",
        description=(
            "'env:NAME' (upper case) or 'file:PATH' (beginning with /, ~/, ./ or ../), never the secret itself"
        ),
    ),
]

_PLAIN = {bool: "True or False", int: "a whole number", float: "a number", str: "text"}


def allowed(hint: Any) -> str:
    """Describe the values that a type of a setting accepts."""
    if get_origin(hint) is Annotated:
        return _annotated(*get_args(hint))
    if get_origin(hint) is Literal:
        return " or ".join(repr(value) for value in get_args(hint))
    if get_origin(hint) in (Union, types.UnionType):
        return _union(get_args(hint))
    if get_origin(hint) is tuple:
        return f"a list whose items are each {allowed(get_args(hint)[0])}"
    if get_origin(hint) is dict:
        key, value = get_args(hint)
        return f"a dictionary from {allowed(key)} to {allowed(value)}"
    return _PLAIN[hint]


def parts(hint: Any) -> tuple[Any, Any]:
    """Return the types of the keys and the values of a dictionary or list type, None where there is none."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is dict:
        return arguments[0], arguments[1]
    return (None, arguments[0]) if origin is tuple else (None, None)


def _union(choices: tuple[Any, ...]) -> str:
    words = " or ".join(allowed(choice) for choice in choices if choice is not type(None))
    return f"{words}, or None" if type(None) in choices else words


def _annotated(base: Any, info: FieldInfo) -> str:
    if info.description:
        return info.description
    low = next((rule.ge for rule in info.metadata if hasattr(rule, "ge")), None)
    high = next((rule.le for rule in info.metadata if hasattr(rule, "le")), None)
    if high is None:
        return f"{_PLAIN[base]} of at least {low}"
    return f"{_PLAIN[base]} from {low} to {high}"
