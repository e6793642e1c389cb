"""Paint a scene as SVG: one file without references, light or dark as its reader's screen is."""

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from rackhand.picture import paint as colours
from rackhand.picture.scene import Box, Scene
from rackhand.render import TEMPLATES


def paint(scene: Scene) -> str:
    """Return the SVG's text; everything from outside is escaped."""
    environment = Environment(loader=FileSystemLoader(TEMPLATES), undefined=StrictUndefined, autoescape=True)
    environment.filters["px"] = _px
    roles = {shape.role for shape in scene.shapes if isinstance(shape, Box)}
    return environment.get_template("memory-bill.svg.j2").render(
        scene=scene,
        light=colours.LIGHT,
        dark=colours.DARK,
        fills={role: colours.fill(role) for role in roles},
        inside=colours.INSIDE,
        sizes=colours.SIZES,
        strokes=colours.STROKES,
    )


def _px(length: float) -> str:
    return f"{length:.1f}".removesuffix(".0")
