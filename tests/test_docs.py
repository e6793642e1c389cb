"""The documentation names what there is, and what it names exists."""

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from rackhand import cli, settings_reference
from rackhand.settings import HINTS

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), ROOT / "benchmarks/README.md"])
LINK = re.compile(r"\]\((?!https?://|mailto:)([^)\s]+)\)")
COMMANDS = ("uv run pyinfra inventory/lab.py deploy.py -y", "uv run pytest")
# Lines of a terminal, not of prose: what follows a prompt-less command in a block.
BLOCK = re.compile(r"^```[a-z]*\n(.*?)^```", re.MULTILINE | re.DOTALL)


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as code forges make them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def subcommands(parser: argparse.ArgumentParser, prefix: str) -> Iterator[str]:
    """Yield every sub-command with the words before it."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, child in action.choices.items():
                yield f"{prefix} {name}"
                yield from subcommands(child, f"{prefix} {name}")


def rackhand_commands() -> list[str]:
    parser = argparse.ArgumentParser()
    chosen = parser.add_subparsers()
    for command in cli.COMMANDS:
        command.add_parser(chosen)
    return list(subcommands(parser, "rackhand"))


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    dead = []
    for link in LINK.findall(page.read_text()):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            dead.append(link)
    assert dead == []


def test_every_page_is_reached_from_the_readme() -> None:
    reached = [ROOT / "README.md"]
    for page in reached:
        links = (link.partition("#")[0] for link in LINK.findall(page.read_text()))
        targets = [(page.parent / link).resolve() for link in links if link.endswith(".md")]
        reached += [target for target in targets if target not in reached]
    assert [named(page) for page in PAGES if page not in reached] == []


def test_every_setting_is_in_the_reference_as_the_code_has_it() -> None:
    page = (ROOT / "docs/reference/settings.md").read_text()
    assert page == settings_reference.render((ROOT / "group_data/all.py").read_text())
    assert [name for name in HINTS if f"| `{name}` |" not in page] == []


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_setting_that_a_page_assigns_exists(page: Path) -> None:
    prefix = r"(?:driver|gpu|engine|model|serve|gate|preflight|report)"
    written = re.findall(rf'(?:--data \'?|"|`)({prefix}_\w+)(?:=|": | = )', page.read_text())
    allowed = {*HINTS, "serve_prot"}  # the tutorial's typo
    assert [name for name in written if name not in allowed] == []


def test_every_command_is_in_the_docs_and_has_help() -> None:
    prose = "\n".join(page.read_text() for page in PAGES if page.name != "CHANGELOG.md")
    missing = [command for command in rackhand_commands() if f"{command} " not in prose and f"{command}`" not in prose]
    assert [command for command in missing if command + "\n" not in prose] == []


def test_every_rackhand_command_in_the_docs_exists() -> None:
    commands = rackhand_commands()
    blocks = "\n".join(block for page in PAGES for block in BLOCK.findall(page.read_text()))
    typed = re.findall(r"\buv run (rackhand [a-z-]+)((?: [a-z-]+)?)", blocks)
    assert typed
    with_verbs = {command.rsplit(" ", 1)[0] for command in commands}
    names = [command + verb if command in with_verbs else command for command, verb in typed]
    assert [name for name in names if name not in commands] == []


def test_the_two_commands_of_the_readme_are_ready_to_type() -> None:
    text = (ROOT / "README.md").read_text()
    for command in COMMANDS:
        assert f"\n./bootstrap && {command}\n" in text


def test_ci_runs_the_second_command_as_the_readme_has_it() -> None:
    run = (ROOT / ".ci/run").read_text()
    assert "\n./bootstrap\n" in run
    assert f"{COMMANDS[1]} " in run
    assert (ROOT / ".ci/run").stat().st_mode & 0o111
    assert (ROOT / "bootstrap").stat().st_mode & 0o111


def test_the_tutorial_begins_with_the_first_command() -> None:
    blocks = BLOCK.findall((ROOT / "docs/tutorial.md").read_text())
    assert blocks[0] == f"./bootstrap && {COMMANDS[0]}\n"


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_no_page_names_a_file_that_is_not_there(page: Path) -> None:
    folders = "deploy.py|config.py|inventory|group_data|tasks|templates|rackhand|tests|docs|benchmarks|requirements|.ci"
    quoted = re.findall(rf"`((?:{folders})(?:/[\w@.-]+)*\.(?:py|md|yaml|j2|txt))`", page.read_text())
    invented = ("group_data/GROUP.py",)
    assert [path for path in quoted if path not in invented and not (ROOT / path).exists()] == []


def test_the_first_screen_of_the_readme_is_one_sentence_and_a_transcript() -> None:
    blocks = (ROOT / "README.md").read_text().split("\n\n")
    assert blocks[0] == "# rackhand"
    assert blocks[1].count(".") == 1
    assert blocks[1].endswith(".")
    assert blocks[2].startswith("```\n$ uv run pyinfra inventory/lab.py deploy.py -y\n")
