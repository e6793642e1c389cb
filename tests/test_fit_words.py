# ruff: noqa: RUF001
"""An answer is told to people: a table, the memory bill as a bar, reasons, alternatives.

To renew the golden files after looking at the difference: REWRITE_GOLDEN=1 pytest tests/test_fit_words.py
"""

import io
import os
import re
from pathlib import Path

import pytest
from rich.cells import cell_len

from rackhand.commands import show
from rackhand.commands.answer import Answer
from rackhand.commands.words import words
from rackhand.picture.bars import cells
from rackhand.plan import Setting
from rackhand.terminal import Terminal
from tests.answers import answer, forecast, instance, mixed, refused, too_large

GOLDEN = Path(__file__).parent / "golden/fit"
ANSWERS = {"two": answer, "mixed": mixed, "refused": refused, "too-large": too_large}
ESCAPE = re.compile(r"\x1b\[[0-9;]*m")


def matches_golden(name: str, text: str) -> None:
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("REWRITE_GOLDEN"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    assert text + "\n" == path.read_text()


def told(name: str, **terminal: bool | int) -> str:
    made: Answer = ANSWERS[name]()
    return words(made, Terminal(**terminal))  # type: ignore[arg-type]


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_reads_as_in_its_golden_file(name: str, width: int) -> None:
    matches_golden(f"{name}-{width}", told(name, width=width))


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_reads_as_in_its_golden_file_in_ascii(name: str) -> None:
    text = told(name, width=80, unicode=False)
    assert text.isascii()
    matches_golden(f"{name}-ascii", text)


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("name", ANSWERS)
def test_no_line_is_wider_than_the_terminal(name: str, width: int) -> None:
    for unicode in (True, False):
        lines = told(name, width=width, unicode=unicode).splitlines()
        assert [line for line in lines if cell_len(line) > width] == []


@pytest.mark.parametrize("name", ANSWERS)
def test_colours_change_no_letter(name: str) -> None:
    coloured = told(name, width=100, colour=True)
    assert "\x1b[34m" in coloured
    plain = [line.rstrip() for line in ESCAPE.sub("", coloured).splitlines()]
    assert plain == told(name, width=100).splitlines()


def test_control_characters_of_a_model_never_reach_the_terminal() -> None:
    text = words(answer(model="evil\x1b[2Jmodel\x07"), Terminal())
    assert "\x1b" not in text
    assert "evilmodel on" in text


def test_the_bar_is_as_wide_as_the_terminal_and_in_proportion() -> None:
    bar = next(line for line in told("two", width=80).splitlines() if line.startswith("██"))
    assert len(bar) == 80
    shares = {letter: bar.count(letter) / 80 for letter in "█░·"}
    assert shares["█"] == pytest.approx(0.193, abs=0.02)
    assert shares["░"] == pytest.approx(0.71, abs=0.03)
    assert shares["·"] == pytest.approx(0.08, abs=0.02)


@pytest.mark.parametrize("sizes", [(1.0,), (70.0, 20.0, 10.0), (99_000.0, 1.0, 1.0, 1.0), (1.0,) * 7])
@pytest.mark.parametrize("width", [7, 60, 100])
def test_cells_add_up_and_nothing_vanishes(sizes: tuple[float, ...], width: int) -> None:
    found = cells(sizes, width)
    assert sum(found) == width
    assert min(found) >= 1
    assert sorted(found, reverse=True) == [count for _, count in sorted(zip(sizes, found, strict=True), reverse=True)]


def test_no_sizes_take_no_cells() -> None:
    assert cells((), 80) == []
    assert cells((0.0, 0.0), 80) == [0, 0]


def test_per_cents_of_a_bill_add_up_to_the_gpu() -> None:
    shares = [float(text) for text in re.findall(r"(\d+\.\d)%", told("two", width=100))]
    assert sum(shares) == pytest.approx(100, abs=0.3)


def test_instances_that_are_alike_share_a_bar_and_a_list_of_settings() -> None:
    text = told("two", width=100)
    assert text.count("weights ") == 1
    assert "qwen3-8b-0 to qwen3-8b-1" in text
    assert text.count("Every setting is vLLM's own default.") == 1


@pytest.mark.parametrize("width", [60, 80, 100])
def test_long_names_are_told_whole(width: int) -> None:
    from dataclasses import replace

    name, value = "a-model-with-a-rather-long-name-480b-instruct", {"cudagraph_capture_sizes": list(range(1, 30))}
    setting = Setting(name="compilation-config", value=value, reason="given with --set", origin="user")
    servers = [replace(each, name=f"{name}-{each.port}", settings=(setting,)) for each in answer().instances]
    text = words(answer(instances=tuple(servers)), Terminal(width=width))
    assert f"{name}-8000" in text
    assert f"{name}-8001" in text
    assert "29]}" in text
    assert max(map(len, text.splitlines())) <= width


def test_every_setting_comes_with_its_reason_and_its_origin() -> None:
    text = " ".join(told("mixed", width=120).split())
    assert "enforce-eager true given with --set (user)" in text
    assert "every layer is divided among 2 GPUs (layout)" in text


def test_a_refusal_names_code_numbers_and_every_alternative_as_it_is_typed() -> None:
    text = told("refused", width=100)
    assert "qwen3-8b on 1× L4: no plan" in text
    assert "No: 1× L4: needs 5.6 GiB for 40,960 tokens, 4.5 GiB are there [does-not-fit]" in text
    assert "--context 32656" in text
    assert "--gpu 2xL4" in text


def test_a_host_is_told_its_alternatives_as_settings() -> None:
    text = words(refused(), Terminal(), typed=False)
    assert "serve_max_model_len = 32656" in text


def test_shares_of_one_gpu_are_named() -> None:
    from dataclasses import replace

    shared = replace(instance(0, (0,), forecast(81_080, 0.4)), share=0.4)
    assert "40% share" in words(answer(instances=(shared,)), Terminal())


class Stream(io.TextIOWrapper):
    """A file that says that it is a terminal, or not."""

    def __init__(self, encoding: str, tty: bool) -> None:
        super().__init__(io.BytesIO(), encoding=encoding)
        self.tty = tty

    def isatty(self) -> bool:
        return self.tty


def test_a_terminal_without_unicode_gets_ascii_and_a_pipe_no_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("COLUMNS", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert Terminal.of(Stream("utf-8", True)) == Terminal(width=100, colour=True)
    assert Terminal.of(Stream("utf-8", False)) == Terminal(width=100, colour=False)
    assert not Terminal.of(Stream("iso8859-1", True)).unicode
    monkeypatch.setenv("NO_COLOR", "1")
    assert not Terminal.of(Stream("utf-8", True)).colour
    monkeypatch.setenv("COLUMNS", "72")
    assert Terminal.of(Stream("utf-8", False)).width == 72


def test_an_answer_can_be_written_to_a_terminal_that_has_ascii_alone() -> None:
    stream = Stream("ascii", False)
    show.answer(mixed(), as_json=False, stream=stream)
    stream.seek(0)
    assert "1x H100 SXM5 80GB, 2x L4: fits, 2 instances" in stream.read()
