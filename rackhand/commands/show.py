"""Bring an answer to its reader: text or JSON to a stream, a picture to a file."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from rackhand.commands.answer import Answer, to_json
from rackhand.commands.words import pictured, words
from rackhand.terminal import Terminal, write


def answer(found: Answer, *, as_json: bool, stream: TextIO) -> None:
    """Print an answer as text for this stream, or as JSON."""
    write(document(to_json(found)) if as_json else words(found, Terminal.of(stream)), stream)


def document(data: Mapping[str, Any]) -> str:
    """Return JSON as every command of ours prints it: in ASCII, so that no terminal can spoil it."""
    return json.dumps(data, indent=2)


def picture(found: Answer, path: Path) -> None:
    """Draw the memory bill into a file; raises RackhandError `picture` when that cannot be."""
    from rackhand.picture.files import save

    facts = [f"vLLM {found.version}", f"preset {found.preset}"]
    if found.forecast is not None:
        facts.append(f"context {found.forecast.context:,} tokens")
    verdict = "" if found.fits else ": no plan"
    save(path, f"{found.model} on {found.cards}{verdict}", " · ".join(facts), pictured(found))
