"""`rackhand plan`: every host of an inventory is asked and planned; 0 all planned, 2 a refusal, 1 trouble."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rackhand import cli, planner, reach
from rackhand.commands import planning
from rackhand.commands.fleet import text, to_json
from rackhand.commands.planning import HostVerdict
from rackhand.errors import RackhandError
from rackhand.outcome import Problem
from rackhand.plan import Plan
from rackhand.seen import gpus
from rackhand.survey import parse
from rackhand.terminal import Terminal
from tests.surveys import CONFIG, answer, wishes
from tests.test_fit_words import matches_golden

LONG = {**CONFIG, "max_position_embeddings": 131_072}
GONE = RackhandError("unreachable", "no SSH connection", "rack9", "check the host")


class Host:
    """A session with a host on paper; it remembers what it was asked."""

    def __init__(self, name: str, *cards: str, config: Mapping[str, Any] = CONFIG, gib: float = 15) -> None:
        self.name, self.cards, self.config, self.gib = name, cards, config, gib
        self.host = SimpleNamespace(data=SimpleNamespace(dict=lambda: {"name": name}))
        self.asked: list[str] = []

    def call(self, function: str, within_s: int = 0, **_: Any) -> Any:
        self.asked.append(function)
        return answer(self.cards)


@pytest.fixture
def plan(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Return the command, run over hosts on paper; an error stands for a host that gives none."""

    def run(*hosts: Host | RackhandError, words: tuple[str, ...] = ()) -> tuple[int, str]:
        known = {host.name: host for host in hosts if isinstance(host, Host)}
        monkeypatch.setattr(
            "rackhand.wishes.resolve", lambda _, name: wishes(known[name].gib, config=known[name].config)
        )

        def ask(inventory: str, patterns: list[str], question: Callable[[Any], Any]) -> dict[str, Any]:
            answers = {host.name: question(host) for host in known.values()}
            return answers | {host.where: host for host in hosts if isinstance(host, RackhandError)}

        monkeypatch.setattr(reach, "ask", ask)
        status = cli.main(["plan", "inventory/prod.py", *words])
        return status, capsys.readouterr().out

    return run


def test_hosts_with_a_plan_are_status_0_and_asked_once_read_only(plan: Callable[..., tuple[int, str]]) -> None:
    host = Host("rack1", "h100", "h100")
    status, out = plan(host)
    assert status == 0
    assert host.asked == ["survey.survey"]
    assert out.splitlines()[2].split()[0] == "rack1"
    assert "llama-0 to llama-1, each on a GPU" in out
    assert out.endswith("1 host: 1 planned.\n")


def test_a_refusal_is_status_2_with_reasons_and_what_would_work(plan: Callable[..., tuple[int, str]]) -> None:
    status, out = plan(Host("rack1", "h100"), Host("rack2", "l4", config=LONG))
    assert status == 2
    assert "[does-not-fit]" in out
    assert "serve_max_model_len = " in out
    assert "2 hosts: 1 planned, 1 refused." in out


def test_an_unreachable_host_is_named_and_status_1(plan: Callable[..., tuple[int, str]]) -> None:
    status, out = plan(Host("rack1", "l4", config=LONG), GONE)
    assert status == 1
    assert "rack9" in out
    assert "no SSH connection [unreachable]" in out
    assert "1 refused, 1 unreachable" in out


def test_hosts_that_are_alike_are_told_once(plan: Callable[..., tuple[int, str]]) -> None:
    _, out = plan(*(Host(f"rack{number}", "h100") for number in range(1, 11)))
    assert out.count("KV cache ") == 1
    assert "rack7 and 2 more" in out or "rack8 and 2 more" in out


def test_the_json_has_the_fields_of_the_reference(plan: Callable[..., tuple[int, str]]) -> None:
    status, out = plan(Host("rack1", "h100"), GONE, words=("--json",))
    found = json.loads(out)
    assert (status, found["schema"], found["fits"]) == (1, "rackhand.plan/1", False)
    assert [host["status"] for host in found["hosts"]] == ["planned", "unreachable"]
    first, second = found["hosts"]
    assert first["plan"]["fits"] is True
    assert first["plan"]["kv_tokens"] > 0
    assert second["plan"] is None
    assert second["problems"][0]["code"] == "unreachable"
    page = (Path(__file__).parent.parent / "docs/reference/fit.md").read_text()
    assert [field for field in first if f"`hosts[].{field}`" not in page] == []
    assert [field for field in found if f"`{field}`" not in page] == []


def test_a_host_gets_the_plan_of_a_deploy() -> None:
    wished, seen = wishes(), parse(answer(("h100", "h100")), "rack1")
    made = planner.plan("rack1", seen, wished)
    assert isinstance(made, Plan)
    found = planning.verdict("rack1", made, gpus(seen), wished)
    assert found.answer is not None
    assert found.answer.instances == made.instances
    assert found.driver == made.driver.version


def test_a_host_without_a_gpu_is_refused_without_a_bill(plan: Callable[..., tuple[int, str]]) -> None:
    status, out = plan(Host("rack1"))
    assert status == 2
    assert "[no-gpu]" in out


def test_a_model_that_nobody_can_compute_is_planned_with_a_warning(plan: Callable[..., tuple[int, str]]) -> None:
    status, out = plan(Host("rack1", "h100", config={"architectures": ["Unheard"]}))
    assert status == 0
    assert "not known" in out


def test_a_fleet_reads_as_in_its_golden_file() -> None:
    from tests.answers import answer as planned
    from tests.answers import refused

    problem = Problem(code="unreachable", what="no SSH connection", where="rack4", next_step="check the host")
    hosts = (
        HostVerdict(name="rack1", answer=planned(), driver="580.126.20"),
        HostVerdict(name="rack2", answer=planned(), driver="580.126.20"),
        HostVerdict(name="rack3", answer=refused()),
        HostVerdict(name="rack4", problem=problem),
    )
    matches_golden("fleet-100", text(hosts, Terminal(width=100)))
    matches_golden("fleet-80-ascii", text(hosts, Terminal(width=80, unicode=False)))
    failed = replace(hosts[3], problem=replace(problem, code="settings"))
    assert failed.status == "failed"
    assert to_json(hosts)["verdict"] == "4 hosts: 2 planned, 1 refused, 1 unreachable."


@pytest.mark.parametrize(("text", "said"), [("import nothing_there", "nothing_there"), ("hosts = [", "never closed")])
def test_an_inventory_that_does_not_run_is_one_line_and_status_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, said: str
) -> None:
    for inventory, words in ((tmp_path / "broken.py", said), (tmp_path, "IsADirectoryError")):
        (tmp_path / "broken.py").write_text(text)
        assert cli.main(["plan", str(inventory)]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert str(inventory) in line
        assert words in line


def test_an_inventory_that_is_not_there_is_status_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["plan", "inventory/prd.py"]) == 1
    assert "did you mean inventory/prod.py?" in capsys.readouterr().err
