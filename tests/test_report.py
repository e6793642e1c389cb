# ruff: noqa: RUF001
"""A run is told once to people, as a table with reasons, and once to programs, as JSON with stable fields.

To renew the golden files after looking at the difference: REWRITE_GOLDEN=1 pytest tests/test_report.py
"""

import dataclasses
import json
import os
import re
import stat
from pathlib import Path
from typing import Any

import pytest

from rackhand import report
from rackhand.errors import RackhandError
from rackhand.health.notice import notice
from rackhand.health.policy import Policy, decided
from rackhand.outcome import (
    Compared,
    Comparison,
    Difference,
    HostOutcome,
    HostStatus,
    InstanceOutcome,
    Problem,
    RunOutcome,
    StepOutcome,
    TurnEvent,
    TurnOutcome,
    WaveOutcome,
)
from rackhand.report_json import SCHEMA, from_json
from rackhand.verdict import verdict
from tests import upgrades

GOLDEN = Path(__file__).parent / "golden" / "report"
PAGE = Path(__file__).parent.parent / "docs/reference/report.md"

PASSED = InstanceOutcome(
    name="tiny-0", port=8000, gpus=("GPU-1",), gate="passed", version="0.32.0", text="a b c d e", ready_s=36.1
)
SECOND = dataclasses.replace(PASSED, name="tiny-1", port=8001, gpus=("GPU-2",))
STEP = StepOutcome(name="Driver | install, pin, hold", changed=True, summary="580.95.05", seconds=81.2)
RACK1 = HostOutcome(
    name="@lab/rack1",
    status=HostStatus.HEALTHY,
    gpus="1× NVIDIA H100 80GB HBM3",
    driver="580.95.05",
    vllm="0.32.0",
    model="tiny",
    release="3f9c2a7be1d0",
    instances=(PASSED,),
    steps=(STEP,),
    seconds=301.25,
    ssh_commands=41,
)
RACK2 = dataclasses.replace(
    RACK1,
    name="@lab/rack2",
    gpus="2× NVIDIA GeForce RTX 4090",
    instances=(PASSED, SECOND),
    seconds=318.0,
    ssh_commands=47,
)
ENGINE_DIED = Problem(
    code="engine-died",
    what="the engine died while it started: CUDA out of memory",
    where="@lab/rack2, vllm@tiny-1",
    next_step="lower serve_gpu_memory_utilization, or find what else uses the GPU",
    evidence=(
        "(EngineCore_DP0 pid=812) ERROR 11-23 23:05:11 [core.py:708] EngineCore failed to start.",
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0, 23.53 GiB in all",
    ),
)
TOO_FEW = Problem(
    code="gpu-count",
    what="1 GPU here (1× NVIDIA GeForce RTX 4090), the inventory promises 2",
    where="@lab/rack2",
    next_step="look for a fallen GPU (lspci, dmesg) or correct gpu_count",
)
NO_SSH = Problem(
    code="unreachable",
    what="no SSH connection",
    where="gpu-b1.example.net",
    next_step="check the host, its address and your key; then run again",
)


MEMORY = Comparison(
    predicted_tokens=926_928,
    reported_tokens=926_880,
    percent=0.01,
    concurrency=113.14,
    terms=(Compared(name="weights", predicted_mib=15_362.0, reported_mib=15_360.0),),
    words="KV cache 926,880 tokens, predicted 926,928, +0.0 %",
)
OFF = Problem(
    code="forecast-off",
    what="KV cache 800,000 tokens, predicted 926,928, +15.9 %",
    where="@lab/rack1 vllm@tiny-0",
    next_step="nothing has to be done: the next plan of such an instance here uses what was reported",
)


def quiet(host: HostOutcome, status: HostStatus, **other: Any) -> HostOutcome:
    """Return the host after a run that did not touch it."""
    return dataclasses.replace(host, status=status, steps=(), seconds=2.9, ssh_commands=3, **other)


def run(*hosts: HostOutcome, seconds: float = 320.1, dry: bool = False) -> RunOutcome:
    return RunOutcome(
        run="20261123T230000Z-0a1b2c",
        command="pyinfra inventory/lab.py deploy.py -y",
        dry=dry,
        started="2026-11-23T23:00:00+00:00",
        finished="2026-11-23T23:05:20+00:00",
        seconds=seconds,
        hosts=hosts,
    )


CHANGED = run(RACK1, RACK2)
UNCHANGED = run(quiet(RACK1, HostStatus.UNCHANGED), quiet(RACK2, HostStatus.UNCHANGED), seconds=3.1)
UNTRIED = (dataclasses.replace(PASSED, gate="not run", version="", text="", ready_s=None),)
REFUSED = run(
    quiet(RACK1, HostStatus.NOT_RUN, instances=UNTRIED),
    quiet(RACK2, HostStatus.REFUSED, gpus="1× NVIDIA GeForce RTX 4090", driver="", instances=(), problems=(TOO_FEW,)),
    seconds=3.4,
)
FAILED = run(
    RACK1,
    dataclasses.replace(
        RACK2,
        status=HostStatus.FAILED,
        instances=(PASSED, dataclasses.replace(SECOND, gate="failed")),
        problems=(ENGINE_DIED,),
    ),
)
UNREACHABLE = run(
    quiet(RACK1, HostStatus.UNCHANGED),
    quiet(RACK2, HostStatus.UNCHANGED),
    HostOutcome(name="gpu-b1.example.net", status=HostStatus.UNREACHABLE, problems=(NO_SSH,)),
    seconds=12.0,
)
TOLD = tuple(dataclasses.replace(instance, memory=MEMORY) for instance in (PASSED, SECOND))
MEASURED = run(
    dataclasses.replace(RACK1, instances=TOLD[:1], warnings=(OFF,)), dataclasses.replace(RACK2, instances=TOLD)
)
UPGRADED = dataclasses.replace(
    run(
        dataclasses.replace(
            RACK1,
            turn=TurnOutcome(wave=1, began_s=2.0, events=(TurnEvent(at_s=2.5, phase="armed"),)),
            differences=(Difference(name="vLLM", before="0.31.0", after="0.32.0"),),
        )
    ),
    owner="ops@control",
    waves=(WaveOutcome(number=1, hosts=("@lab/rack1",), began_s=2.0),),
)
DRY = run(
    quiet(
        RACK1,
        HostStatus.PLANNED,
        instances=UNTRIED,
        plan=(
            "Debian GNU/Linux 12 (bookworm), 1× NVIDIA H100 80GB HBM3",
            "driver 580.95.05: install, pin and hold (loaded now: 575.57.08); reboot",
            "vLLM 0.32.0: build environment 91c0d2e4 (requirements/vllm-0.32.0.txt)",
            "vllm@tiny-0 on 127.0.0.1:8000, GPU 0000:19:00.0: to be started",
        ),
    ),
    quiet(RACK2, HostStatus.REFUSED, instances=(), problems=(TOO_FEW,)),
    seconds=2.2,
    dry=True,
)
RUNS = {
    "changed": CHANGED,
    "unchanged": UNCHANGED,
    "refused": REFUSED,
    "failed": FAILED,
    "unreachable": UNREACHABLE,
}


def matches_golden(name: str, text: str) -> None:
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("REWRITE_GOLDEN"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    assert text + "\n" == path.read_text()


@pytest.mark.parametrize("width", [80, 100, 140])
@pytest.mark.parametrize("name", RUNS)
def test_a_run_reads_as_in_its_golden_file(name: str, width: int) -> None:
    matches_golden(f"{name}-{width}", report.table(RUNS[name], width))


def test_a_dry_run_reads_as_in_its_golden_file() -> None:
    matches_golden("dry-plan", report.plan_text(DRY))


def test_no_golden_file_is_left_over() -> None:
    wanted = {f"{name}-{width}.txt" for name in RUNS for width in (80, 100, 140)} | {"dry-plan.txt"}
    assert {path.name for path in GOLDEN.iterdir()} == wanted


@pytest.mark.parametrize("width", [20, 60, 80, 100, 140])
@pytest.mark.parametrize("name", RUNS)
def test_no_line_of_the_table_is_cut_or_wider_than_the_terminal(name: str, width: int) -> None:
    text = report.table(RUNS[name], width)
    if "─" in text:
        told = [line for line in text.splitlines()[:-1] if "→" not in line and "  │ " not in line]
        assert max(map(len, told)) <= width
    assert "…" not in text
    for host in RUNS[name].hosts:
        assert host.name in text
        for instance in host.instances:
            assert f"{instance.name}:{instance.port}" in text


def test_a_wide_table_names_every_column() -> None:
    heading = report.table(CHANGED, 140).splitlines()[0].split()
    assert heading == ["host", "GPUs", "driver", "vLLM", "model", "instances", "gate", "seconds", "status"]


def test_colours_appear_only_when_asked_for() -> None:
    assert "\x1b[" not in report.table(FAILED, 140)
    coloured = report.table(FAILED, 140, colour=True)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", coloured)
    assert [line.rstrip() for line in plain.splitlines()] == report.table(FAILED, 140).splitlines()
    assert "\x1b[" in coloured


def test_every_reason_is_one_line_with_where_what_code_and_next_step() -> None:
    line = f"{ENGINE_DIED.where}: {ENGINE_DIED.what} [engine-died] → {ENGINE_DIED.next_step}"
    assert line in report.table(FAILED, 80).splitlines()


def test_a_reason_that_names_no_host_gets_its_name() -> None:
    problem = dataclasses.replace(ENGINE_DIED, where="requirements.txt", evidence=())
    text = report.table(run(dataclasses.replace(RACK1, status=HostStatus.FAILED, problems=(problem,))), 100)
    assert "\n@lab/rack1, requirements.txt: the engine died" in text


def test_many_hosts_with_the_same_reasons_are_told_it_once() -> None:
    names = [f"h{number}" for number in range(20)]
    wrong = [dataclasses.replace(ENGINE_DIED, where=name, evidence=("a line",)) for name in names]
    other = dataclasses.replace(wrong[1], what="the disk is full")
    found = [(each,) for each in wrong]
    found[1] = (other,)
    hosts = [dataclasses.replace(RACK1, name=name, problems=each) for name, each in zip(names, found, strict=True)]
    told = [line for line in report.table(run(*hosts), 120).splitlines() if "[engine-died]" in line or "│" in line]
    assert [line.partition(": ")[0] for line in told] == [
        "h0, h2, h3, h4, h5, h6, h7, h8 and 11 more",
        "  │ a line",
        "h1",
        "  │ a line",
    ]


def test_evidence_cannot_move_the_cursor_or_write_markup() -> None:
    nasty = dataclasses.replace(
        ENGINE_DIED, what="[red]x[/red]\nsecond", evidence=("\x1b[2J\x1b]0;t\x07red\r\x9bmore",)
    )
    text = report.table(run(dataclasses.replace(RACK1, status=HostStatus.FAILED, problems=(nasty,))), 100)
    assert "[red]x[/red] second [engine-died]" in text
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", text)


@pytest.mark.parametrize(
    ("outcome", "sentence"),
    [
        (UNCHANGED, "2 hosts healthy, nothing changed, 3.1 s, 3 SSH commands per host at most."),
        (CHANGED, "2 hosts healthy, changes on 2 hosts, 320.1 s, 47 SSH commands per host at most."),
        (
            REFUSED,
            "1 of 2 hosts refused: @lab/rack2; 1 host not run, nothing changed, 3.4 s, "
            "3 SSH commands per host at most.",
        ),
        (
            UNREACHABLE,
            "1 of 3 hosts unreachable: gpu-b1.example.net; 2 hosts healthy, nothing changed, 12.0 s, "
            "3 SSH commands per host at most.",
        ),
        (
            run(dataclasses.replace(RACK1, status=HostStatus.INTERRUPTED, ssh_commands=1), seconds=1.0),
            "1 of 1 host interrupted: @lab/rack1; changes on 1 host, 1.0 s, 1 SSH command per host at most.",
        ),
        (
            run(quiet(RACK1, HostStatus.NOT_RUN), seconds=1.0),
            "1 of 1 host not run: @lab/rack1; nothing changed, 1.0 s, 3 SSH commands per host at most.",
        ),
        (
            run(quiet(RACK1, HostStatus.PLANNED), quiet(RACK2, HostStatus.PLANNED), seconds=2.0, dry=True),
            "2 hosts planned, nothing changed, 2.0 s, 3 SSH commands per host at most.",
        ),
        (run(), "No host took part in this run."),
    ],
)
def test_the_verdict_is_one_sentence(outcome: RunOutcome, sentence: str) -> None:
    assert verdict(outcome) == sentence
    assert report.table(outcome, 100).splitlines()[-1] == sentence


def test_the_longest_time_out_of_service_is_told_with_the_engines_part_of_it() -> None:
    lines = report.table(upgrades.AT_THE_CANARY, 140).splitlines()
    assert "out of service for 60.5 s at most (gpu-a1), 27.9 s of it the engine's own start" in lines


@pytest.mark.parametrize(
    ("left", "line", "sentence"),
    [
        (["gpu-a2"], "1 host not touched and serves as before: gpu-a2", "1 host was not touched and serves as before"),
        (
            ["gpu-a2", "gpu-b1"],
            "2 hosts not touched and serve as before: gpu-a2, gpu-b1",
            "2 hosts were not touched and serve as before",
        ),
    ],
)
def test_how_many_were_not_touched_is_told_in_good_grammar(left: list[str], line: str, sentence: str) -> None:
    stopped = upgrades.rollout(
        [upgrades.rolled_back("gpu-a1")], [upgrades.left_alone(name) for name in left], stopped="gpu-a1 was rolled back"
    )
    assert line in report.table(stopped, 140).splitlines()
    assert f"; {sentence}; " in verdict(stopped)


def test_the_verdict_tells_different_ends_apart() -> None:
    text = verdict(run(RACK1, FAILED.hosts[1], UNREACHABLE.hosts[2]))
    assert text.startswith(
        "2 of 3 hosts did not get there (failed: @lab/rack2; unreachable: gpu-b1.example.net); 1 host"
    )


def test_the_verdict_of_a_large_fleet_stays_short() -> None:
    hosts = [dataclasses.replace(RACK1, name=f"gpu{number}", status=HostStatus.FAILED) for number in range(40)]
    assert "gpu4 and 35 more;" in verdict(run(*hosts))


def test_a_dry_run_says_why_a_host_has_no_plan() -> None:
    assert f"[gpu-count] → {TOO_FEW.next_step}" in report.plan_text(DRY)


def test_the_table_says_what_started_engines_reported_once_for_all_that_said_the_same() -> None:
    lines = report.table(MEASURED, 200).splitlines()
    assert f"{MEMORY.words} (@lab/rack1 tiny-0, @lab/rack2 tiny-0, @lab/rack2 tiny-1)" in lines
    running = dataclasses.replace(PASSED, memory=MEMORY, ready_s=None)
    quietly = run(quiet(RACK1, HostStatus.UNCHANGED, instances=(running,)))
    assert MEMORY.words not in report.table(quietly, 200)


def test_of_many_engines_that_said_the_same_five_are_named() -> None:
    many = [dataclasses.replace(RACK1, name=f"gpu-{number}", instances=TOLD[:1]) for number in range(7)]
    assert "gpu-4 tiny-0 and 2 more)" in report.table(run(*many), 200)
    assert "gpu-5 tiny-0" not in report.table(run(*many), 200)


def test_what_slows_gpus_stands_below_the_table_once_and_notes_do_not() -> None:
    hosts = [dataclasses.replace(host, findings=upgrades.ailing(host.name)) for host in (RACK1, RACK2)]
    for said in (report.table(run(*hosts), 120), report.plan_text(run(*hosts))):
        line = "a GPU is slowed down by the power brake [power-brake] → "
        places = ", ".join(f"{host.name} GPU 0000:17:00.0" for host in hosts)
        assert f"warning: {places}: {line}" in said
        assert "power-limit" not in said


def test_of_many_hosts_with_the_same_finding_eight_are_named() -> None:
    hosts = [dataclasses.replace(RACK1, name=f"h{n}", findings=upgrades.ailing(f"h{n}")) for n in range(20)]
    said = report.table(run(*hosts), 120)
    assert said.count("[power-brake]") == 1
    assert "h7 GPU 0000:17:00.0 and 12 more: a GPU is slowed down" in said


def test_findings_can_be_read_back_from_a_report() -> None:
    outcome = run(dataclasses.replace(RACK1, findings=upgrades.ailing(RACK1.name)))
    assert from_json(json.loads(json.dumps(report.to_json(outcome)))) == outcome


def test_what_keeps_a_host_from_serving_is_its_reason_and_not_said_twice() -> None:
    sick = decided([notice("row-remap-pending", gpu="0000:17:00.0")], Policy(), RACK1.name)
    assert "row" not in report.table(run(dataclasses.replace(RACK1, findings=sick)), 120)


def test_a_warning_stands_in_the_table_and_the_host_is_healthy_all_the_same() -> None:
    assert f"warning: @lab/rack1 vllm@tiny-0: {OFF.what} [forecast-off] → {OFF.next_step}" in report.table(
        MEASURED, 200
    )
    assert MEASURED.good


def fields(value: Any, path: str = "") -> set[str]:
    """Return the dotted names of all fields of a report, lists marked by []."""
    if isinstance(value, dict):
        return {
            name
            for key, inner in value.items()
            for name in {f"{path}.{key}".lstrip("."), *fields(inner, f"{path}.{key}".lstrip("."))}
        }
    if isinstance(value, list):
        return {name for inner in value for name in fields(inner, f"{path}[]")}
    return set()


def test_the_documented_fields_are_those_of_the_report() -> None:
    documented = set(
        re.findall(r"^\| `([^`]+)` \| (?:text|list|number|integer|boolean|object)\b", PAGE.read_text(), re.MULTILINE)
    )
    assert documented == set().union(*(fields(report.to_json(run)) for run in (FAILED, MEASURED, UPGRADED)))
    assert f"`{SCHEMA}`" in PAGE.read_text()


@pytest.mark.parametrize("status", HostStatus)
def test_every_status_is_documented(status: HostStatus) -> None:
    assert f"`{status}`" in PAGE.read_text()


def test_the_report_holds_everything_that_the_run_knows() -> None:
    told = report.to_json(FAILED)
    assert told["hosts"][1]["problems"][0]["evidence"] == list(ENGINE_DIED.evidence)
    for kind, name in ((HostOutcome, "hosts[]"), (InstanceOutcome, "hosts[].instances[]")):
        for field in dataclasses.fields(kind):
            assert f"{name}.{field.name}" in fields(told)
    assert json.loads(json.dumps(told)) == told


@pytest.mark.parametrize("outcome", [*RUNS.values(), MEASURED, UPGRADED, DRY, run()])
def test_a_run_can_be_read_back_from_its_report(outcome: RunOutcome) -> None:
    assert from_json(json.loads(json.dumps(report.to_json(outcome)))) == outcome


def test_a_report_of_before_there_were_turns_can_be_read() -> None:
    old = report.to_json(CHANGED)
    for name in ("waves", "stopped", "purpose", "owner"):
        del old[name]
    for host in old["hosts"]:
        del host["turn"], host["role"], host["differences"]
    assert from_json(old) == CHANGED


@pytest.mark.parametrize(
    "wrong",
    [{"schema": "rackhand.report/9"}, {"hosts": 5}, {"hosts": [{"name": "a"}]}, {"seconds": "long"}, {"dry": 1}],
)
def test_what_is_no_report_is_refused_in_one_line(wrong: dict[str, Any]) -> None:
    with pytest.raises(RackhandError, match="report_dir") as caught:
        from_json({**report.to_json(CHANGED), **wrong}, "x.json")
    assert (caught.value.code, caught.value.where) == ("report-format", "x.json")


@pytest.mark.parametrize("value", [None, [], "text", {}])
def test_what_is_no_object_is_no_report(value: Any) -> None:
    with pytest.raises(RackhandError, match="no report"):
        from_json(value)


def test_a_password_on_the_command_line_is_not_reported() -> None:
    command = "pyinfra inventory/lab.py deploy.py --ssh-password 'hunter2 x' --limit rack1"
    told = report.to_json(dataclasses.replace(CHANGED, command=command))
    assert told["command"] == "pyinfra inventory/lab.py deploy.py --ssh-password *** --limit rack1"


def test_a_report_is_written_whole_and_latest_points_at_it(tmp_path: Path) -> None:
    directory = tmp_path / "deep" / "reports"
    first = report.write(CHANGED, directory)
    assert first.path == directory / "20261123T230000Z-0a1b2c.json"
    assert first.page == directory / "20261123T230000Z-0a1b2c.html"
    assert first.words == f"{first.path}, {first.page}"
    assert stat.S_IMODE(first.path.stat().st_mode) == stat.S_IMODE(first.page.stat().st_mode) == 0o644
    assert json.loads(first.path.read_text()) == report.to_json(CHANGED)
    second = report.write(dataclasses.replace(UNCHANGED, run="20261123T231000Z-ffffff"), directory)
    assert second.page
    assert (directory / "latest.json").readlink() == Path(second.path.name)
    assert (directory / "latest.html").readlink() == Path(second.page.name)
    names = {first.path.name, first.page.name, second.path.name, second.page.name, "latest.json", "latest.html"}
    assert {path.name for path in directory.iterdir()} == names


def test_a_report_that_cannot_be_written_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "reports").write_text("a file in the way")
    with pytest.raises(RackhandError, match="report_dir") as caught:
        report.write(CHANGED, tmp_path / "reports")
    assert caught.value.code == "report"


def test_a_failed_write_leaves_the_old_report_and_no_rubbish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report.write(CHANGED, tmp_path)
    before = sorted(path.name for path in tmp_path.iterdir())

    def full(self: Path, text: str, **_: str) -> int:
        self.open("w").close()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(RackhandError, match="No space left"):
        report.write(UNCHANGED, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert json.loads((tmp_path / "latest.json").read_text()) == report.to_json(CHANGED)
