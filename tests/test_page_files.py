"""The page of a run beside its JSON: written with it, never instead of it, and again from old reports."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from rackhand import cli, report
from rackhand.outcome import RunOutcome
from rackhand.report_json import to_json
from tests import test_report as plain
from tests import upgrades


def test_a_page_that_cannot_be_drawn_loses_no_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report.write(upgrades.UPGRADE, tmp_path)

    def broken(run: RunOutcome) -> str:
        raise ZeroDivisionError("no width")

    monkeypatch.setattr("rackhand.page.page.render", broken)
    written = report.write(replace(upgrades.AT_THE_CANARY, run="later"), tmp_path)
    assert json.loads((tmp_path / "latest.json").read_text()) == to_json(replace(upgrades.AT_THE_CANARY, run="later"))
    assert written.words == f"{tmp_path / 'later.json'} (no page: ZeroDivisionError: no width)"
    # The page of the run before would be taken for this one's.
    assert not (tmp_path / "latest.html").is_symlink()
    assert not list(tmp_path.glob(".*"))


def test_half_a_letter_from_a_host_costs_neither_report_nor_page(tmp_path: Path) -> None:
    written = report.write(plain.run(replace(plain.RACK1, model="\ud800")), tmp_path)
    assert written.page
    assert json.loads(written.path.read_text())["hosts"][0]["model"] == "?"


def test_an_old_report_becomes_the_same_page_and_the_same_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    written = report.write(upgrades.AT_THE_CANARY, tmp_path)
    assert cli.main(["report", str(tmp_path / "latest.json"), "--html", str(tmp_path / "again.html")]) == 0
    assert capsys.readouterr().out == ""
    assert written.page
    assert (tmp_path / "again.html").read_text() == written.page.read_text()
    assert cli.main(["report", str(written.path)]) == 0
    assert capsys.readouterr().out == report.table(upgrades.AT_THE_CANARY, 100) + "\n"


@pytest.mark.parametrize(
    ("content", "words", "code"),
    [
        (None, "No such file", "unreadable"),
        ("{", "it is no JSON", "unreadable"),
        ("{}", "this is no report", "report-format"),
    ],
)
def test_what_is_no_report_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None, words: str, code: str
) -> None:
    if content is not None:
        (tmp_path / "x.json").write_text(content)
    assert cli.main(["report", str(tmp_path / "x.json")]) == 1
    said = capsys.readouterr().err
    assert words in said
    assert f"[{code}]" in said


def test_a_page_that_cannot_be_written_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written = report.write(upgrades.UPGRADE, tmp_path)
    assert cli.main(["report", str(written.path), "--html", str(tmp_path / "none" / "x.html")]) == 1
    assert "[report]" in capsys.readouterr().err
