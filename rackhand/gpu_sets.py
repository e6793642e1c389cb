"""GPU sets as people type them: 2xH100-SXM-80GB, 8x H200, a100-80gb, rtx4090, 2xA100-80GB+2xL4."""

import difflib
import re

from rackhand.catalog.gpus import CardRow, gpu_book
from rackhand.errors import RackhandError

MOST = 64
SEPARATOR = re.compile(r"[+,;]")
# Counts stand before the name with a sign or a space (2xL4, 2 L4), or behind it with a sign (L4x2, L4:2).
BEFORE = re.compile(r"(\d+)\s*(?:[x×*]\s*|\s(?=[a-z]))(\S.*)")  # noqa: RUF001 — the sign that people type
BEHIND = re.compile(r"(.*\S)\s*(?:\s[x×*]|[×*:]|(?<=\d)x)\s*(\d+)")  # noqa: RUF001 — the sign that people type
# Words that tell no product apart.
NOISE = re.compile(r"nvidia|geforce|quadro|tesla|gpu|rtx|hbm\d+e?")
FORM = re.compile(r"(sxm|pcie|nvl)\d*")
MEMORY = re.compile(r"(\d+)(?:g|gb|gib)")
# Boxes round: the B200 is sold with 180, 186 and 192 GB.
CLOSE = 0.1

Gpus = tuple[tuple[int, CardRow], ...]


def parse(text: str, where: str = "--gpu") -> Gpus:
    """Read a set of one host's GPUs as (count, card) in the order typed.

    Raises RackhandError `unknown-gpu` for no such card (with near names), for a name that fits cards of different
    memory (with all of them), and for a count outside 1 to 64.
    """
    return tuple(_counted(part.strip(), where) for part in SEPARATOR.split(text))


def find(name: str, where: str = "--gpu") -> CardRow:
    """Find the card that a name means; raises RackhandError `unknown-gpu` as `parse` does."""
    words = _words(name)
    form = next((found[1] for word in words if (found := FORM.fullmatch(word))), None)
    product = "".join(word for word in words if not FORM.fullmatch(word) and not MEMORY.fullmatch(word))
    sizes = [int(found[1]) for word in words if (found := MEMORY.fullmatch(word))]
    rows = _of_form(_of_product(product), form) if form else _of_product(product)
    if rows and sizes:
        rows = _of_size(rows, sizes[0])
    return _choose(rows, name, where)


def _counted(part: str, where: str) -> tuple[int, CardRow]:
    text = part.lower()
    if found := BEFORE.fullmatch(text):
        count, name = int(found[1]), found[2]
    elif found := BEHIND.fullmatch(text):
        count, name = int(found[2]), found[1]
    else:
        count, name = 1, text
    if not 1 <= count <= MOST:
        raise RackhandError(
            "unknown-gpu", f"'{part}' asks for {count} GPUs in one host", where, f"give a count of 1 to {MOST}"
        )
    return count, find(name, where)


def _words(name: str) -> list[str]:
    split = re.sub(r"(?<=\d)\s+(?=(?:g|gb|gib)\b)", "", name.lower())
    words = [NOISE.sub("", word) for word in re.findall(r"[a-z0-9]+", split)]
    return [word for word in words if word]


def _product_words(row: CardRow) -> list[str]:
    return [word for word in _words(row.name) if not FORM.fullmatch(word) and not MEMORY.fullmatch(word)]


def _form(row: CardRow) -> str | None:
    return next((found[1] for word in _words(row.name) if (found := FORM.fullmatch(word))), None)


def _of_product(product: str) -> list[CardRow]:
    """Return the rows of exactly this product, or those whose words hold it in order (pro6000 → RTX PRO 6000 …)."""
    rows = [row for row in gpu_book().cards if product and " or " not in row.name]
    exact = [row for row in rows if "".join(_product_words(row)) == product]
    return exact or [row for row in rows if _held(product, _product_words(row))]


def _held(product: str, words: list[str]) -> bool:
    return re.fullmatch("".join(f"(?:{word})?" for word in words), product) is not None


def _of_form(rows: list[CardRow], form: str) -> list[CardRow]:
    """Return the rows of this form; a card that comes in one form only has a name without it."""
    return [row for row in rows if _form(row) == form] or [row for row in rows if _form(row) is None]


def _of_size(rows: list[CardRow], gigabytes: int) -> list[CardRow]:
    def distance(row: CardRow) -> float:
        return abs(row.memory_mib / 1024 - gigabytes)

    nearest = min(distance(row) for row in rows)
    return [row for row in rows if distance(row) == nearest and nearest <= CLOSE * gigabytes]


def _choose(rows: list[CardRow], name: str, where: str) -> CardRow:
    """Take the usual one; where memory and capability are the same, the first is as good as any."""
    usual = [row for row in rows if row.usual] or rows
    if not usual:
        raise RackhandError("unknown-gpu", f"no card is called '{name.strip()}'", where, _near(name))
    if len({(row.memory_mib, row.capability) for row in usual}) > 1:
        several = ", ".join(_typed(row) for row in usual)
        raise RackhandError(
            "unknown-gpu", f"'{name.strip()}' can mean several cards", where, f"choose one of {several}"
        )
    return usual[0]


def _typed(row: CardRow) -> str:
    return row.name.replace(" ", "-")


def _near(name: str) -> str:
    words = [(row, part) for row in reversed(gpu_book().cards) for part in (_words(row.name), _product_words(row))]
    names = {"".join(part): _typed(row) for row, part in words}
    near = [names[key] for key in difflib.get_close_matches("".join(_words(name)), names, n=3)]
    return f"did you mean {', '.join(near)}?" if near else "name a card, for instance H100-SXM-80GB, L40S or RTX-4090"
