"""Rules of this repository that no other tool checks."""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.error_codes import ROOT, all_codes, parsed, sources

LONGEST_FILE, LONGEST_FUNCTION = 250, 25
ERRORS = ROOT / "docs/reference/errors.md"
PYINFRA = re.compile(r"^\s*(?:from|import) pyinfra(?:_cli)?\b", re.MULTILINE)
# The modules that speak to pyinfra; everything else is plain Python.
EDGE = {
    "deploy.py",
    "config.py",
    "rollback.py",
    "verify.py",
    "rackhand/operations.py",
    "rackhand/reach.py",
    "rackhand/session.py",
    "rackhand/ssh.py",
    "rackhand/turns.py",
    "rackhand/verifying.py",
    "rackhand/lab/connector.py",
}
REGISTRIES = re.compile(
    r"pypi\.(?:org|python)|pythonhosted|registry\.npmjs|deb\.debian\.org|ftp\.[a-z.]*debian|(?:archive|security)\.ubuntu|"
    r"conda\.anaconda|crates\.io|proxy\.golang",
    re.IGNORECASE,
)
CHECKOUTS = re.compile(r"(?<![\w.-])/(?:work|workspace|home/[a-z]|Users)/")
GENERATED = ("requirements.txt", "requirements/")


def tracked() -> list[str]:
    """Return the files of the repository that are there, new ones included."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return [name for name in done.stdout.splitlines() if (ROOT / name).is_file() and not (ROOT / name).is_symlink()]


def texts() -> Iterator[tuple[str, str]]:
    for name in tracked():
        if name != "tests/test_repository.py":  # it names what it looks for
            yield name, (ROOT / name).read_text(errors="ignore")


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """Yield every function with its length, docstring left out."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[1] if ast.get_docstring(node) and len(node.body) > 1 else node.body[0]
            yield f"{named(path)}: {node.name}", (node.end_lineno or 0) - first.lineno + 1


def test_files_are_short() -> None:
    lengths = {named(path): len(path.read_text().splitlines()) for path in sources()}
    assert {name: length for name, length in lengths.items() if length > LONGEST_FILE} == {}


def test_functions_are_short() -> None:
    lengths = dict(found for path in sources() for found in functions(path))
    assert {name: length for name, length in lengths.items() if length > LONGEST_FUNCTION} == {}


def test_only_the_edge_speaks_to_pyinfra() -> None:
    found = {named(path) for path in [*sources(), *ROOT.glob("*.py")] if PYINFRA.search(path.read_text())}
    assert {name for name in found if not name.startswith("tasks/")} <= EDGE


def test_the_product_does_not_know_its_practice_fleet() -> None:
    allowed = ("rackhand/lab/", "rackhand/cli.py")
    lab = re.compile(r"^\s*(?:from|import) rackhand\.lab\b|rackhand import lab\b", re.MULTILINE)
    found = [named(path) for path in sources() if lab.search(path.read_text())]
    assert [name for name in found if not name.startswith(allowed)] == []


@pytest.mark.parametrize("word", ["utils", "helpers", "helper", "manager", "misc", "common"])
def test_no_module_has_a_name_that_says_nothing(word: str) -> None:
    assert [named(path) for path in sources() if path.stem == word] == []


def test_no_file_names_the_host_of_a_package_registry() -> None:
    found = {name: REGISTRIES.findall(text) for name, text in texts() if not name.startswith(GENERATED)}
    assert {name: hosts for name, hosts in found.items() if hosts} == {}


def test_requirements_name_no_index() -> None:
    index = re.compile(r"^\s*(?:--index-url|--extra-index-url|-i\s|--find-links|-f\s)", re.MULTILINE)
    locks = [name for name in tracked() if name.startswith(GENERATED) and name.endswith((".txt", ".in"))]
    assert locks
    assert [name for name in locks if index.search((ROOT / name).read_text())] == []


def test_no_file_names_a_directory_of_the_machine_it_was_written_on() -> None:
    found = {name: CHECKOUTS.findall(text) for name, text in texts()}
    assert {name: paths for name, paths in found.items() if paths} == {}


def test_there_is_no_second_lock() -> None:
    assert [name for name in tracked() if Path(name).name == "uv.lock"] == []


def test_every_error_code_is_explained_once_and_no_other() -> None:
    rows = re.findall(r"^\| `([a-z0-9.-]+)` \| ([^|]+) \| ([^|]+) \|$", ERRORS.read_text(), re.MULTILINE)
    explained = [code for code, _, _ in rows]
    assert sorted(all_codes() - set(explained)) == []
    assert sorted(set(explained) - all_codes()) == []
    assert sorted({code for code in explained if explained.count(code) > 1}) == []


def test_every_row_of_the_page_of_errors_is_whole() -> None:
    rows = [line for line in ERRORS.read_text().splitlines() if line.startswith("| `")]
    assert [row for row in rows if row.count(" | ") != 2] == []
