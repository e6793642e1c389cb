"""The report of a run as a page: true to scale, harmless whatever hosts say, whole without anything from elsewhere.

To renew the golden file after looking at the difference: REWRITE_GOLDEN=1 pytest tests/test_page.py
"""

import os
import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from rackhand.health.notice import notice
from rackhand.health.policy import Policy, decided
from rackhand.outcome import HostStatus, RunOutcome
from rackhand.page import colours
from rackhand.page.page import render
from rackhand.page.phases import Phase
from rackhand.page.timeline import timeline
from rackhand.verdict import verdict
from tests import test_report as plain
from tests import upgrades

GOLDEN = Path(__file__).parent / "golden" / "page" / "rolled-back.html"
RUNS = {
    "upgrade": upgrades.UPGRADE,
    "rolled-back": upgrades.AT_THE_CANARY,
    "interrupted": upgrades.interrupted(),
    "large": upgrades.large(),
    "measured": plain.MEASURED,
    "dry": plain.DRY,
    "empty": plain.run(),
    **plain.RUNS,
}
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(1)>\"'&\x1b[2J\u202egnp\ud800\uffff"


def parsed(run: RunOutcome) -> ElementTree.Element:
    """Return the page's tree; raises where it is not well-formed."""
    return ElementTree.fromstring(render(run).partition("\n")[2])


def text_of(run: RunOutcome) -> str:
    """Return what a reader sees, spaces joined."""
    page = parsed(run)
    for style in page.iter("style"):
        style.text = ""
    return " ".join(" ".join(page.itertext()).split())


def named(page: ElementTree.Element, tag: str, word: str = "") -> list[ElementTree.Element]:
    """Return the elements of a tag, whatever its namespace, that have a class."""
    found = [each for each in page.iter() if str(each.tag).rpartition("}")[2] == tag]
    return [each for each in found if not word or word in (each.get("class") or "").split()]


@pytest.mark.parametrize("name", RUNS)
def test_a_page_is_well_formed_and_begins_with_the_verdict(name: str) -> None:
    page = parsed(RUNS[name])
    assert named(page, "h1")[0].text == verdict(RUNS[name])


@pytest.mark.parametrize("name", RUNS)
def test_a_page_needs_nothing_from_elsewhere_and_runs_no_script(name: str) -> None:
    page = parsed(RUNS[name])
    assert not any(named(page, tag) for tag in ("script", "link", "img", "iframe", "object", "use", "image"))
    given = {key for each in page.iter() for key in each.attrib}
    assert not {key for key in given if key.startswith("on") or key in ("src", "href", "data", "action")}
    assert not re.search(r"url\(|@import|@font-face", render(RUNS[name]))


def test_a_typical_page_is_its_golden_file() -> None:
    page = render(upgrades.AT_THE_CANARY)
    if os.environ.get("REWRITE_GOLDEN"):
        GOLDEN.parent.mkdir(parents=True, exist_ok=True)
        GOLDEN.write_text(page)
    assert page == GOLDEN.read_text()


def hostile(run: RunOutcome) -> RunOutcome:
    """Return a run in which everything that a host or an inventory may say is meant to break the page."""
    problem = replace(
        upgrades.NO_TOKEN, what=HOSTILE, where=HOSTILE, next_step=HOSTILE, code=HOSTILE, evidence=(HOSTILE,)
    )
    host = upgrades.rolled_back(HOSTILE)
    assert host.turn
    events = tuple(replace(event, instance=event.instance and HOSTILE, detail=HOSTILE) for event in host.turn.events)
    host = replace(
        host,
        gpus=HOSTILE,
        driver=HOSTILE,
        vllm=HOSTILE,
        model=HOSTILE,
        release=HOSTILE,
        instances=tuple(replace(each, name=HOSTILE, gate=HOSTILE, text=HOSTILE) for each in host.instances),
        steps=tuple(replace(step, name=HOSTILE, summary=HOSTILE) for step in host.steps),
        problems=(problem,),
        warnings=(problem,),
        findings=tuple(
            replace(each, what=HOSTILE, where=HOSTILE, next_step=HOSTILE, code=HOSTILE, gpu=HOSTILE)
            for each in host.findings
        ),
        differences=tuple(replace(each, name=HOSTILE, before=HOSTILE, after=HOSTILE) for each in host.differences),
        turn=replace(host.turn, before=HOSTILE, after=HOSTILE, events=events),
    )
    made = upgrades.rollout([host, replace(host, name="gpu-a2")], stopped=HOSTILE)
    return replace(made, owner=HOSTILE, run=HOSTILE, purpose=HOSTILE, started=HOSTILE, finished=HOSTILE)


def test_what_a_host_says_is_text_and_nothing_else() -> None:
    run = hostile(upgrades.UPGRADE)
    page, usual = parsed(run), parsed(upgrades.AT_THE_CANARY)
    assert {str(each.tag) for each in page.iter()} <= {str(each.tag) for each in usual.iter()}
    assert {key for each in page.iter() for key in each.attrib} <= {key for each in usual.iter() for key in each.attrib}
    seen = "".join(page.itertext())
    # Of each field: it is there, as it was said.
    assert seen.count("<script>alert(1)</script>") >= 25
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e\ud800\uffff]", seen)


def test_a_password_on_the_command_line_is_not_on_the_page() -> None:
    run = replace(upgrades.UPGRADE, command="pyinfra inventory/lab.py deploy.py --ssh-password 'hunter2 x'")
    assert "hunter2" not in render(run)
    assert "--ssh-password ***" in text_of(run)


def test_the_page_tells_of_a_rollback_at_the_canary_what_a_boss_asks() -> None:
    text = text_of(upgrades.AT_THE_CANARY)
    for told in (
        "rolled back within 26.9 s",
        "out of service 1 min 0 s at most (gpu-a1), 27.9 s of it engine start",
        "requests cut off 0",
        "waves through 1 of 2",
        "Wave 2 2 hosts · did not begin",
        "The rollout stopped: gpu-a1, a canary, was rolled back",
        "2 hosts were not touched and serve as before.",
        "the server answers, and its completion holds no token gpu-a1 vllm@tiny-0 · gate-completion "
        "→ look at journalctl -u vllm@tiny-0 ERROR scheduler produced no output",
        "3 hosts: gpu-a1, gpu-a2, gpu-b1",
        "vLLM 0.31.0 0.32.0 tiny-0: max-num-seqs \N{EN DASH} 512",
        "passed “a b c d e”",
        "926,928 / 926,880 0.0 %",
        "run by ops@control",
    ):
        assert told in text
    assert "it did not get its turn" not in text


def test_a_forecast_that_says_nothing_of_the_engine_is_called_not_compared() -> None:
    host = upgrades.upgraded("gpu-a1")
    memory = replace(upgrades.MEMORY, reported_tokens=2_097_152, percent=None)
    on_a_cpu = replace(host, instances=tuple(replace(each, memory=memory) for each in host.instances))
    assert "926,928 / 2,097,152 not compared" in text_of(upgrades.rollout([on_a_cpu]))


def test_what_ails_gpus_stands_in_a_table_what_blocks_first_and_the_same_of_several_once() -> None:
    hosts = [upgrades.upgraded(name) for name in ("gpu-a1", "gpu-a2")]
    sick = decided([notice("row-remap-pending", gpu="0000:17:00.0")], Policy(), "gpu-a1")
    run = upgrades.rollout([replace(each, findings=(*sick, *upgrades.ailing(each.name))) for each in hosts])
    _, found, said = text_of(run).partition("Health of the GPUs")
    assert found
    order = ["error a remapped row", "warning a GPU has fewer PCIe lanes", "warning a GPU is slowed", "info a GPU may"]
    assert [said.index(words) for words in order] == sorted(said.index(words) for words in order)
    assert said.count("power-brake") == 1
    assert "gpu-a1 GPU 0000:17:00.0, gpu-a2 GPU 0000:17:00.0" in said


def test_a_whole_upgrade_shows_nothing_that_went_wrong() -> None:
    page, text = parsed(upgrades.UPGRADE), text_of(upgrades.UPGRADE)
    assert "What went wrong" not in text
    assert not named(page, "article")
    assert not named(page, "g", "fail")
    assert f"{upgrades.OLD} → {upgrades.NEW}" in text


@pytest.mark.parametrize(
    ("run", "why"),
    [
        (plain.UNCHANGED, "No host had a turn: nothing had to be disturbed."),
        (plain.FAILED, "No host had a turn in this run."),
        (plain.CHANGED, "No host had a turn in this run."),
        (replace(plain.REFUSED, stopped="capacity"), "No host had a turn: the rollout stopped before the first."),
    ],
)
def test_a_run_without_turns_says_so_in_place_of_the_picture(run: RunOutcome, why: str) -> None:
    assert not named(parsed(run), "svg")
    assert why in text_of(run)


def test_an_interrupted_turn_is_drawn_to_the_end_of_the_run() -> None:
    run = upgrades.interrupted()
    page = parsed(run)
    start = named(page, "rect", f"p-{Phase.START}")[-1]
    assert float(start.get("x", 0)) + float(start.get("width", 0)) == pytest.approx(932, abs=0.2)
    assert "Wave 1 · canary 1 host · did not end" in text_of(run)


def test_the_page_of_two_hundred_hosts_is_small_and_names_the_one_that_stands_out() -> None:
    run = upgrades.large()
    assert len(run.hosts) == 200
    assert len(render(run).encode()) < 1_000_000
    svg = named(parsed(run), "svg")[0]
    shown = "".join(part for label in named(svg, "text") for part in label.itertext())
    assert "gpu-133" in shown
    assert "gpu-132" not in shown
    assert float((svg.get("viewBox") or "").split()[3]) < 2000


def test_a_problem_of_many_hosts_is_told_once() -> None:
    hosts = [replace(upgrades.rolled_back(f"gpu-{number}"), turn=None) for number in range(20)]
    text = text_of(upgrades.rollout(hosts))
    assert text.count(upgrades.NO_TOKEN.what) == 1
    assert "gpu-11 vllm@tiny-0 and 8 more" in text


def contrast(ink: str, paper: str) -> float:
    """Return the contrast of two colours as the accessibility guidelines (WCAG 2) define it."""

    def light(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    bright, dim = sorted((light(ink), light(paper)), reverse=True)
    return (bright + 0.05) / (dim + 0.05)


@pytest.mark.parametrize("screen", [colours.LIGHT, colours.DARK], ids=["light", "dark"])
def test_every_letter_can_be_read_on_its_paper(screen: dict[str, str]) -> None:
    tones = ("good", "bad", "back", "still")
    pairs = [(ink, paper) for ink in ("ink", "faint", *tones) for paper in ("paper", "sheet")]
    pairs += [(tone, f"{tone}-paper") for tone in tones]
    assert [pair for pair in pairs if contrast(*(screen[name] for name in pair)) < 4.5] == []


@pytest.mark.parametrize("status", HostStatus)
def test_every_status_has_a_colour_and_only_good_ones_are_green(status: HostStatus) -> None:
    assert (colours.tone(status) == "good") is status.good
    assert f"{colours.tone(status)}-paper" in colours.LIGHT.keys() & colours.DARK.keys()


def test_a_large_fleet_is_drawn_thin_but_for_what_stands_out() -> None:
    found = timeline(upgrades.large())
    assert found is not None
    thick = [row.row.name for band in found.bands[1:] for row in band.rows if not row.row.thin]
    assert thick == ["gpu-133"]
    # A wave of one host has room for its name.
    assert found.bands[0].rows[0].row.label == "gpu-001"
