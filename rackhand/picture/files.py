"""Put the picture of a memory bill into a file, SVG or PNG by the file's name."""

from collections.abc import Sequence
from pathlib import Path

from rackhand.errors import RackhandError
from rackhand.picture.bars import Bar
from rackhand.picture.scene import scene

SUFFIXES = (".svg", ".png")


def check(path: Path) -> None:
    """Refuse a path that cannot become a picture, before anything is computed; raises RackhandError `picture`."""
    if path.suffix.lower() not in SUFFIXES:
        raise RackhandError("picture", "a picture is drawn as SVG or PNG", str(path), "end the name with .svg or .png")
    if not path.parent.is_dir():
        raise RackhandError("picture", "there is no such directory", str(path.parent), "make it, or choose another")


def save(path: Path, title: str, subtitle: str, bars: Sequence[Bar]) -> None:
    """Draw bars; raises RackhandError `picture` when there is nothing to draw or the file cannot be written."""
    check(path)
    if not bars:
        raise RackhandError("picture", "there is no memory bill to draw", str(path), "read the reasons above it")
    drawing = scene(title, subtitle, bars)
    if path.suffix.lower() == ".svg":
        from rackhand.picture import svg

        content = svg.paint(drawing).encode()
    else:
        from rackhand.picture import png

        content = png.paint(drawing)
    try:
        path.write_bytes(content)
    except OSError as error:
        what = f"the picture cannot be written: {error.strerror}"
        raise RackhandError("picture", what, str(path), "choose a place that you can write") from None
