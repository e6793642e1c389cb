"""The programs that print figures can be started: they are run by hand, long after the code under them has changed."""

import importlib
import re
import sys

import pytest

from tests.error_codes import ROOT

PROGRAMS = [path.stem for path in sorted(ROOT.glob("benchmarks/*.py")) if "__main__" in path.read_text()]


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_benchmark_says_how_to_run_it(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    program = importlib.import_module(f"benchmarks.{name}")
    monkeypatch.setattr(sys, "argv", [f"{name}.py", "--help"])
    with pytest.raises(SystemExit) as end:
        program.main()
    assert end.value.code == 0
    assert f"usage: {name}.py" in capsys.readouterr().out


def test_every_benchmark_is_on_the_page_of_benchmarks() -> None:
    listed = re.findall(r"^\| `(\w+)\.py` \|", (ROOT / "benchmarks/README.md").read_text(), re.MULTILINE)
    assert sorted(listed) == PROGRAMS
