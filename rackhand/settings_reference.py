"""Write docs/reference/settings.md from the Settings class and the comments of group_data/all.py.

Run as `python -m rackhand.settings_reference` in the checkout.
"""

import re
from pathlib import Path
from typing import Any

from rackhand.setting_types import allowed
from rackhand.settings import DEFAULTS, HINTS, PREFIXES

SOURCE = Path("group_data/all.py")
PAGE = Path("docs/reference/settings.md")

_SETTING = re.compile(r"^(?:# )?(?P<name>[a-z_]\w*) = ")
_INTRODUCTION = """\
# Settings

Generated from `rackhand/settings.py` and `group_data/all.py` by `python -m rackhand.settings_reference`.

Settings are host data of pyinfra. The first hit wins: `--data KEY=VALUE`, the host's own data in the inventory, the
data of its groups (the group defined last wins), `group_data/all.py`. Dictionaries are replaced, not merged. An unknown
key, a wrong type and an impossible value are refused by name before any host is touched.
"""


def comments(source: str) -> dict[str, str]:
    """Return the comment of every assignment of a group data file, by name."""
    found: dict[str, str] = {}
    above = ""
    for line in source.splitlines():
        name = _SETTING.match(line)
        if name:
            found[name["name"]] = above
        above = line.removeprefix("# ") if line.startswith("# ") and not name else ""
    return found


def render(source: str) -> str:
    """Return the reference page for a group data file: one section per prefix, one table each."""
    texts = comments(source)
    sections = [_section(prefix, texts) for prefix in PREFIXES]
    return "\n".join([_INTRODUCTION, *sections])


def main() -> None:
    """Write the page."""
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(render(SOURCE.read_text()))


def _section(prefix: str, texts: dict[str, str]) -> str:
    rows = [_row(name, texts[name]) for name in HINTS if name.startswith(prefix)]
    return "\n".join(
        [f"## `{prefix}`", "", "| setting | default | allowed | meaning |", "|---|---|---|---|", *rows, ""]
    )


def _row(name: str, text: str) -> str:
    cells = (f"`{name}`", _default(name), allowed(HINTS[name]), text)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _default(name: str) -> str:
    if name not in DEFAULTS:
        return "required"
    value: Any = DEFAULTS[name]
    return f"`{list(value) if isinstance(value, tuple) else value!r}`"


if __name__ == "__main__":
    main()
