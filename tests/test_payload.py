"""A payload carries exactly the code that a call needs, runs without an installation, and shows no argument."""

import ast
import base64
import json
import re
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest

from rackhand import payload

ROOT = Path(__file__).parent.parent
REMOTE = ROOT / "rackhand" / "remote"
WITH_PYNVML = ("nvml", "gpu_load", "gpu_metrics", "gpu_modes", "gpu_slices", "health_nvml")
NAMES = sorted(path.stem for path in REMOTE.glob("*.py") if path.stem not in ("__init__", *WITH_PYNVML))
CALL = re.compile(r'call\(\s*"([a-z_]+)\.([a-z_]+)"')
# Runs several payloads in one process; each must bring all of its own modules along.
EVERY = """
import io, sys
loader, texts = sys.stdin.read().split("\\1")
for text in texts.split("\\2"):
    for name in [name for name in sys.modules if name.startswith("rackhand")]:
        del sys.modules[name]
    sys.stdin = io.TextIOWrapper(io.BytesIO(text.encode()))
    exec(loader, {})
"""


def unpacked(text: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(zlib.decompress(base64.b64decode(text)))
    return found


def modules(text: str) -> list[str]:
    return [name.removeprefix("rackhand.remote.") for name, _ in unpacked(text)["modules"]][2:]


def redirected(text: str, call: str, args: dict[str, Any]) -> str:
    """Let a payload call something harmless after its modules were executed."""
    content = json.dumps({**unpacked(text), "call": call, "args": args})
    return base64.b64encode(zlib.compress(content.encode())).decode()


def python(program: str, stdin: str) -> subprocess.CompletedProcess[str]:
    """Run the system's Python without site packages, without this checkout, as a host would."""
    command = ["python3", "-I", "-S", "-c", program]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, check=False, cwd="/", timeout=30)


def imported(name: str) -> set[str]:
    tree = ast.parse((REMOTE / f"{name}.py").read_text())
    froms = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    siblings = {alias.name for node in froms if node.module == "rackhand.remote" for alias in node.names}
    members = {
        (node.module or "").rpartition(".")[2] for node in froms if (node.module or "").startswith("rackhand.remote.")
    }
    return siblings | members


@pytest.mark.parametrize("name", NAMES)
def test_the_payload_of_a_module_is_its_imports_and_nothing_else(name: str) -> None:
    needed, todo = set[str](), [name]
    while todo:
        current = todo.pop()
        if current not in needed:
            needed.add(current)
            todo += imported(current)
    assert sorted(modules(payload.pack(f"{name}.any", {}))) == sorted(needed)


@pytest.mark.parametrize("name", NAMES)
def test_every_module_comes_after_those_that_it_imports(name: str) -> None:
    order = modules(payload.pack(f"{name}.any", {}))
    for position, module in enumerate(order):
        assert imported(module) <= set(order[:position]), module
    assert order[-1] == name


def test_every_payload_runs_with_the_standard_library_alone() -> None:
    texts = [redirected(payload.pack(f"{name}.any", {}), "json.dumps", {"obj": name}) for name in NAMES]
    done = python(EVERY, payload.LOADER + "\1" + "\2".join(texts))
    assert done.returncode == 0, done.stderr
    assert [json.loads(line) for line in done.stdout.splitlines()] == [{"result": f'"{name}"'} for name in NAMES]


def test_arguments_of_every_kind_arrive_unchanged() -> None:
    value = {"text": "a'b\"c\\ \n ü \u2028", "list": [1, None, True, 0.5], "none": None}
    done = python(payload.LOADER, redirected(payload.pack("problem.any", {}), "json.dumps", {"obj": value}))
    assert json.loads(json.loads(done.stdout)["result"]) == value


def test_a_problem_comes_back_as_data_and_not_as_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "incoming" / "uv").mkdir(parents=True)
    (tmp_path / "incoming" / "uv" / "uv-1").write_text("not uv")
    call = payload.pack("venv.accept_uv", {"root": str(tmp_path), "name": "uv-1", "sha256": "0" * 64})
    done = python(payload.LOADER, call)
    assert done.returncode == 0
    assert done.stderr == ""
    assert json.loads(done.stdout)["problem"]["code"] == "upload"


def test_any_other_exception_ends_the_program_with_its_traceback() -> None:
    done = python(payload.LOADER, payload.pack("state.no_such_function", {}))
    assert done.returncode != 0
    assert "no_such_function" in done.stderr
    assert done.stdout == ""


def test_the_nvml_probe_brings_pynvml_along() -> None:
    done = python(payload.LOADER, payload.nvml_probe())
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["result"]["state"] in ("ok", "no-library", "not-loaded", "mismatch", "error")


def test_the_same_call_gives_the_same_bytes() -> None:
    assert payload.pack("state.instances", {"b": 1, "a": 2}) == payload.pack("state.instances", {"b": 1, "a": 2})


@pytest.mark.parametrize("name", [*NAMES, *WITH_PYNVML])
def test_remote_code_is_python_39_and_imports_the_standard_library_alone(name: str) -> None:
    text = (REMOTE / f"{name}.py").read_text()
    tree = ast.parse(text, feature_version=(3, 9))
    plain = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    froms = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    roots = {module.partition(".")[0] for module in [*plain, *froms]} - {"rackhand"}
    assert roots - sys.stdlib_module_names == ({"pynvml"} if name in WITH_PYNVML else set())
    assert "from __future__ import annotations" in text
    assert not re.search(r"zip\([^)]*strict=|kw_only=|\bmatch \w+:$", text, re.MULTILINE)


def test_every_call_in_the_product_names_a_function_that_exists() -> None:
    sources = [*ROOT.glob("tasks/*.py"), *ROOT.glob("rackhand/*.py")]
    calls = {found for path in sources for found in CALL.findall(path.read_text())}
    assert len(calls) > 10
    for module, function in calls:
        tree = ast.parse((REMOTE / f"{module}.py").read_text())
        assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, (module, function)


def test_the_visible_part_of_a_command_is_short_and_names_nothing_of_a_call() -> None:
    assert len(payload.LOADER) < 600
    assert "rackhand" not in payload.LOADER
