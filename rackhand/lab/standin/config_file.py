"""The YAML of `--config`, read with vLLM's traps: `false` vanishes and `null` becomes the text "None".

Only the shape that a renderer writes is understood: `key: scalar`, and `key:` followed by `- item` lines or by an
indented mapping, which stays unread.
"""

import json
from pathlib import Path

INDENTED = (" ", "\t")


def load_arguments(path: str) -> list[str]:
    """Turn a config file into command line words, as vLLM does. Raises ValueError for a suffix other than YAML's."""
    if path.rsplit(".", 1)[-1] not in ("yaml", "yml"):
        raise ValueError(f"Config file must be of a yaml/yml type. {path.rsplit('.', 1)[-1]} supplied")
    words: list[str] = []
    for key, value in _entries(Path(path).read_text(encoding="utf-8")):
        words += _words(key, value)
    return words


def _words(key: str, value: str | list[str]) -> list[str]:
    if isinstance(value, list):
        return [f"--{key}", *map(_scalar, value)] if value else []
    if value in ("true", "True", "yes", "on"):
        return [f"--{key}"]
    if value in ("false", "False", "no", "off"):
        return []
    return [f"--{key}", "None" if value in ("null", "~", "") else _scalar(value)]


def _entries(text: str) -> list[tuple[str, str | list[str]]]:
    entries: list[tuple[str, str | list[str]]] = []
    for line in text.splitlines():
        bare = line.strip()
        if not bare or bare.startswith("#") or bare in ("---", "..."):
            continue
        if bare.startswith("- ") and entries:
            key, value = entries[-1]
            entries[-1] = (key, [*(value if isinstance(value, list) else []), bare[2:].strip()])
        elif not line.startswith(INDENTED):
            key, _, value = bare.partition(":")
            entries.append((key.strip(), value.strip()))
    return entries


def _scalar(value: str) -> str:
    if value.startswith('"'):
        return str(json.loads(value))
    if value.startswith("'"):
        return value[1:-1].replace("''", "'")
    return value
