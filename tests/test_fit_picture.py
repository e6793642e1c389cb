# ruff: noqa: RUF001
"""The picture of a memory bill: a scene that is exact, an SVG that is valid XML, a PNG that decodes."""

import os
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image

from rackhand.commands import show
from rackhand.commands.answer import Answer
from rackhand.commands.words import pictured
from rackhand.errors import RackhandError
from rackhand.picture import paint, png, svg
from rackhand.picture.files import check, save
from rackhand.picture.scene import MARGIN, WIDTH, Box, Line, Scene, Words, scene
from tests.answers import answer, mixed, refused, too_large

SVG = "{http://www.w3.org/2000/svg}"
TITLE = (
    "an-owner-of-many-models/a-model-with-a-rather-long-name-480b-instruct-fp8 on 8× RTX PRO 6000 Blackwell Workstation"
)


def long_names() -> Answer:
    """Return an answer whose names are as long as they come."""
    card = "RTX PRO 6000 Blackwell Workstation"
    plain = answer()
    name = "a-model-with-a-rather-long-name-480b-instruct-fp8-and-still-more"
    servers = (replace(each, name=f"{name}-{number}") for number, each in enumerate(plain.instances))
    return replace(plain, instances=tuple(servers), gpus=tuple(replace(gpu, card=card) for gpu in plain.gpus))


ANSWERS = {"two": answer, "mixed": mixed, "refused": refused, "too-large": too_large, "long": long_names}


def drawn(made: Answer) -> Scene:
    return scene(TITLE, "vLLM 0.32.0", pictured(made))


def bars_of(found: Scene) -> list[Box]:
    return [shape for shape in found.shapes if isinstance(shape, Box) and shape.title]


@pytest.mark.parametrize("name", ANSWERS)
def test_everything_lies_inside_of_the_picture(name: str) -> None:
    found = drawn(ANSWERS[name]())
    for shape in found.shapes:
        match shape:
            case Box():
                assert shape.x >= MARGIN - 0.01
                assert shape.x + shape.width <= WIDTH - MARGIN + 0.01
                assert shape.y + shape.height < found.height
            case Line():
                assert MARGIN - 0.01 <= shape.x1 <= WIDTH - MARGIN + 0.01
            case Words():
                assert 0 <= shape.y < found.height


@pytest.mark.parametrize("name", ANSWERS)
def test_slices_touch_and_are_in_proportion_to_their_mib(name: str) -> None:
    made = ANSWERS[name]()
    boxes = bars_of(drawn(made))
    bills = [part for bar in pictured(made) for part in bar.slices]
    assert len(boxes) == len(bills)
    scale = boxes[0].width / bills[0].mib
    for box, part in zip(boxes, bills, strict=True):
        assert box.width == pytest.approx(part.mib * scale)
    ends = {round(box.x + box.width, 3) for box in boxes}
    assert all(round(box.x, 3) in ends or box.x == MARGIN for box in boxes)


@pytest.mark.parametrize("name", ANSWERS)
def test_words_on_one_line_do_not_run_into_each_other(name: str) -> None:
    lines: dict[float, list[tuple[float, float]]] = {}
    for shape in drawn(ANSWERS[name]()).shapes:
        if isinstance(shape, Words):
            width = png.width(shape)
            start = {"start": 0.0, "middle": width / 2, "end": width}[shape.anchor]
            lines.setdefault(shape.y, []).append((shape.x - start, shape.x - start + width))
    for spans in lines.values():
        ordered = sorted(spans)
        assert ordered[0][0] >= 0
        assert max(end for _, end in ordered) <= WIDTH
        for before, after in pairwise(ordered):
            assert before[1] <= after[0]


def test_the_picture_says_model_gpu_version_tokens_and_what_is_allowed(tmp_path: Path) -> None:
    show.picture(answer(), tmp_path / "bill.svg")
    text = " ".join(ElementTree.parse(tmp_path / "bill.svg").getroot().itertext())
    for words in ("qwen3-8b on 2× H100 SXM5 80GB", "vLLM 0.32.0", "KV tokens", "allowed: 92%", "weights", "KV cache"):
        assert words in text
    assert "15,669 MiB" in text


@pytest.mark.parametrize("name", ANSWERS)
def test_the_svg_is_valid_xml_and_stands_alone(name: str) -> None:
    text = svg.paint(drawn(ANSWERS[name]()))
    root = ElementTree.fromstring(text)
    assert root.tag == f"{SVG}svg"
    assert root.find(f"{SVG}title") is not None
    assert "href" not in text
    assert "url(" not in text
    for box in root.iter(f"{SVG}rect"):
        assert float(box.get("width", "1").rstrip("%")) > 0


def test_the_picture_of_the_documentation_is_what_is_drawn_today(tmp_path: Path) -> None:
    """Renew it with REWRITE_GOLDEN=1 after looking at the difference."""
    page = Path(__file__).parent.parent / "docs/pictures/memory-bill.svg"
    show.picture(mixed(), tmp_path / "bill.svg")
    if os.environ.get("REWRITE_GOLDEN"):
        page.parent.mkdir(exist_ok=True)
        page.write_bytes((tmp_path / "bill.svg").read_bytes())
    assert page.read_bytes() == (tmp_path / "bill.svg").read_bytes()


def test_what_comes_from_outside_is_escaped() -> None:
    text = svg.paint(scene('<script>&"', "a < b", pictured(answer(model="<b>"))))
    root = ElementTree.fromstring(text)
    assert "<script>" not in text
    assert '<script>&"' in "".join(root.itertext())


@pytest.mark.parametrize("name", ANSWERS)
def test_the_png_decodes_at_twice_the_size_and_shows_every_term(name: str, tmp_path: Path) -> None:
    made = ANSWERS[name]()
    found = drawn(made)
    save(tmp_path / "bill.png", found.title, "vLLM 0.32.0", pictured(made))
    with Image.open(tmp_path / "bill.png") as image:
        image.load()
        assert image.size == (2 * found.width, 2 * found.height)
        colours = {colour for _, colour in image.convert("RGB").getcolors(1 << 20)}
    for box in bars_of(found):
        if box.width > 2:
            assert tuple(bytes.fromhex(paint.fill(box.role)[1:])) in colours


def test_the_same_answer_draws_the_same_bytes() -> None:
    assert png.paint(drawn(mixed())) == png.paint(drawn(mixed()))


def luminance(colour: str) -> float:
    """Return the relative luminance of WCAG 2.2."""
    parts = [value / 255 for value in bytes.fromhex(colour[1:])]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("paper", [paint.LIGHT, paint.DARK], ids=["light", "dark"])
def test_text_is_readable_in_light_and_dark(paper: paint.Paper) -> None:
    assert contrast(paper.ink, paper.paper) >= 7
    assert contrast(paper.faint, paper.paper) >= 4.5


@pytest.mark.parametrize("role", ["weights", "kv_cache", "activation", "other_processes", "cuda_graphs"])
def test_text_is_readable_inside_of_the_bar(role: str) -> None:
    assert contrast(paint.INSIDE, paint.fill(role)) >= 4.5


@pytest.mark.parametrize(("name", "says"), [("bill.pdf", "SVG or PNG"), ("none/bill.svg", "no such directory")])
def test_a_file_that_cannot_be_a_picture_is_refused(name: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(RackhandError, match=says) as refused_as:
        check(tmp_path / name)
    assert refused_as.value.code == "picture"


def test_an_answer_without_a_bill_has_no_picture(tmp_path: Path) -> None:
    with pytest.raises(RackhandError, match="no memory bill"):
        show.picture(answer(instances=(), forecast=None), tmp_path / "bill.svg")


def test_colours_of_light_and_dark_are_in_one_svg() -> None:
    text = svg.paint(drawn(answer()))
    assert re.search(r"prefers-color-scheme: dark", text)
    assert paint.LIGHT.paper in text
    assert paint.DARK.paper in text
