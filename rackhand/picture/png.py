"""Paint a scene as PNG, with the letters that Pillow brings: a machine without fonts draws the same picture."""

from functools import cache
from io import BytesIO

from PIL import Image, ImageDraw, ImageFont

from rackhand.picture import paint as colours
from rackhand.picture.scene import Box, Line, Scene, Words
from rackhand.terminal import Terminal

# Twice the size, for screens and paper of today.
SCALE = 2
DASH = (5, 4)
# Pillow's own font has ASCII and these.
PLAIN, BESIDES = Terminal(unicode=False), "·…"
ANCHORS = {"start": "ls", "middle": "ms", "end": "rs"}


def paint(scene: Scene) -> bytes:
    """Return the PNG's bytes; the same scene gives the same bytes."""
    image = Image.new("RGB", (scene.width * SCALE, scene.height * SCALE), colours.LIGHT.paper)
    brush = ImageDraw.Draw(image)
    for shape in scene.shapes:
        match shape:
            case Box():
                _box(brush, shape)
            case Line():
                _line(brush, shape)
            case Words():
                _words(brush, shape)
    out = BytesIO()
    image.save(out, "PNG", optimize=True)
    return out.getvalue()


def _box(brush: ImageDraw.ImageDraw, box: Box) -> None:
    left, top, right, bottom = (round(SCALE * place) for place in (box.x, box.y, box.x + box.width, box.y + box.height))
    brush.rectangle((left, top, max(left, right - 1), bottom - 1), fill=colours.fill(box.role))
    if right - left > 2 * SCALE:
        brush.line((right - 1, top, right - 1, bottom - 1), fill=colours.LIGHT.paper, width=SCALE // 2)


def _line(brush: ImageDraw.ImageDraw, line: Line) -> None:
    colour = colours.LIGHT.faint if line.role == "tick" else colours.LIGHT.ink
    width = colours.STROKES[line.role] * SCALE
    if line.role != "allowed":
        brush.line([SCALE * place for place in (line.x1, line.y1, line.x2, line.y2)], fill=colour, width=width)
        return
    y = line.y1
    while y < line.y2:
        end = min(y + DASH[0], line.y2)
        brush.line([SCALE * place for place in (line.x1, y, line.x1, end)], fill=colour, width=width)
        y += sum(DASH)


def width(words: Words) -> float:
    """Return how wide a text is, in pixels of the scene."""
    return _font(words.role).getlength(_letters(words.text)) / SCALE


def _words(brush: ImageDraw.ImageDraw, words: Words) -> None:
    colour = {"faint": colours.LIGHT.faint, "inside": colours.INSIDE}.get(words.role, colours.LIGHT.ink)
    text = _letters(words.text)
    # One weight only: titles get a thin outline of their own colour instead.
    outline = 0.4 * SCALE if words.role in ("title", "heading") else 0
    place = (SCALE * words.x, SCALE * words.y)
    brush.text(
        place,
        text,
        fill=colour,
        font=_font(words.role),
        anchor=ANCHORS[words.anchor],
        stroke_width=outline,
        stroke_fill=colour,
    )


def _letters(text: str) -> str:
    return "".join(letter if letter in BESIDES else PLAIN.say(letter) for letter in text)


@cache
def _font(role: str) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(colours.SIZES[role] * SCALE)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise RuntimeError("this Pillow was built without FreeType")  # its wheels have it
    return font
