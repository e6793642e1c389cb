"""The linters have nothing to say: ruff, mypy, shellcheck, and every YAML file loads."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from rackhand.catalog.book import LOADER
from tests.error_codes import ROOT
from tests.test_repository import tracked

BIN = Path(sys.executable).parent
SHELLS = ("#!/bin/sh", "#!/bin/bash", "#!/usr/bin/env bash", "#!/usr/bin/env sh")


def said(*command: str) -> str:
    """Run a tool of this environment; return what it complains about, empty when it is content."""
    program, *arguments = command
    done = subprocess.run([BIN / program, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr if done.returncode else ""


def shell_scripts() -> list[str]:
    """Return every file that a shell runs, whatever its name."""
    heads = {name: (ROOT / name).open("rb").readline().decode(errors="ignore").strip() for name in tracked()}
    return [name for name, head in heads.items() if head.startswith(SHELLS) or name.endswith(".sh")]


def test_ruff_finds_nothing() -> None:
    assert said("ruff", "check", "--quiet", ".") == ""


def test_everything_is_formatted() -> None:
    assert said("ruff", "format", "--check", "--quiet", ".") == ""


def test_every_type_holds() -> None:
    assert said("mypy", "--strict", "rackhand", "tasks") == ""


def test_shellcheck_finds_nothing_and_knows_every_script() -> None:
    scripts = shell_scripts()
    assert "bootstrap" in scripts
    assert said("shellcheck", *scripts) == ""


@pytest.mark.parametrize("name", [name for name in tracked() if name.endswith((".yaml", ".yml"))])
def test_yaml_loads(name: str) -> None:
    assert yaml.load((ROOT / name).read_text(), Loader=LOADER) is not None
