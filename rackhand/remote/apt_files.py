"""What other people's files tell apt on this host: sources with their keys, and preferences. Read-only."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

OURS = "rackhand-"
EMBEDDED = "(in the file)"


def sources(root: str = "/") -> list[dict[str, str]]:
    """List the repositories that files other than ours name: file, address without a final slash, suite, key."""
    folder = Path(root, "etc/apt")
    found: list[dict[str, str]] = []
    for path in [folder / "sources.list", *sorted((folder / "sources.list.d").glob("*"))]:
        if path.name.startswith(OURS) or path.suffix not in (".list", ".sources"):
            continue
        read = _stanzas_of_sources if path.suffix == ".sources" else _lines_of_sources
        found += [{"file": f"/{path.relative_to(root)}", **entry} for entry in read(_read(path))]
    return found


def _lines_of_sources(text: str) -> Iterator[dict[str, str]]:
    """Read the one-line form: deb [signed-by=KEY] ADDRESS SUITE COMPONENT…"""
    for line in text.splitlines():
        kind, _, rest = line.partition("#")[0].strip().partition(" ")
        options, bracket, after = rest.partition("]")
        words = (after if bracket else rest).split()
        if kind != "deb" or len(words) < 2:
            continue
        given = dict(word.split("=", 1) for word in options.strip(" [").split() if "=" in word) if bracket else {}
        yield {"uri": words[0].rstrip("/"), "suite": words[1], "key": given.get("signed-by", "")}


def _stanzas_of_sources(text: str) -> Iterator[dict[str, str]]:
    """Read the deb822 form."""
    for fields in _stanzas(text):
        if "deb" not in fields.get("types", "").split() or fields.get("enabled", "yes").lower() == "no":
            continue
        key = fields.get("signed-by", "")
        for uri in fields.get("uris", "").split():
            for suite in fields.get("suites", "").split():
                yield {"uri": uri.rstrip("/"), "suite": suite, "key": EMBEDDED if "BEGIN PGP" in key else key}


def preferences(root: str = "/") -> list[dict[str, str | int]]:
    """List the pins that files other than ours set: file, packages, what is pinned, priority."""
    folder = Path(root, "etc/apt")
    found: list[dict[str, str | int]] = []
    for path in [folder / "preferences", *sorted((folder / "preferences.d").glob("*"))]:
        if path.name.startswith(OURS) or path.suffix not in ("", ".pref"):
            continue
        for fields in _stanzas(_read(path)):
            priority = fields.get("pin-priority", "").lstrip("+")
            if priority.lstrip("-").isdigit():
                where = f"/{path.relative_to(root)}"
                pinned = {"packages": fields.get("package", ""), "pin": fields.get("pin", "")}
                found.append({"file": where, **pinned, "priority": int(priority)})
    return found


def _stanzas(text: str) -> Iterator[dict[str, str]]:
    """Yield the fields of each stanza, names in lower case, continued lines joined."""
    fields: dict[str, str] = {}
    last = ""
    for line in [*text.splitlines(), ""]:
        if line.startswith("#"):
            continue
        if not line.strip():
            if fields:
                yield fields
            fields, last = {}, ""
        elif line[0].isspace() and last:
            fields[last] = f"{fields[last]} {line.strip()}".strip()
        else:
            name, _, value = line.partition(":")
            last = name.strip().lower()
            fields[last] = value.strip()


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
