"""Load the texts of templates/ that are written to hosts; what a template wants and nobody gives is an error."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from rackhand.envfile import systemd_quote

TEMPLATES = Path(__file__).parent.parent / "templates"


@cache
def template(name: str) -> Template:
    """Return one template; nothing is escaped, because none of them is HTML."""
    jinja = environment(autoescape=False)
    jinja.filters["systemd_quote"] = systemd_quote
    return jinja.get_template(name)


def environment(*, autoescape: bool, finalize: Callable[[Any], Any] | None = None) -> Environment:
    """Return the way in which all templates are read; `finalize` is called with each value before it is written."""
    return Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=autoescape,
        finalize=finalize,
    )
