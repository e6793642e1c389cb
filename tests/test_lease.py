"""One run at a time works on a host; who comes second is told who, since when, and how to take its place."""

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from rackhand.remote import lease, state
from rackhand.remote.problem import Problem


def wish(run: str = "run-1", **changes: Any) -> dict[str, Any]:
    return {
        "owner": f"anna@{run}", "controller": "desk", "run": run, "purpose": "deploy", "pid": 7, "seconds": 60,
        "break": False, **changes,
    }  # fmt: skip


def held(root: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((root / state.LEASE).read_text())
    return found


def ledger(root: Path) -> list[dict[str, Any]]:
    path = root / "ledger.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def expire(root: Path) -> None:
    (root / state.LEASE).write_text(json.dumps({**held(root), "expires": time.time() - 1}))


@pytest.fixture
def order(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Open an order of a run; its program is alive."""

    def opened(run: str, active: str = "active", **more: Any) -> None:
        monkeypatch.setattr(state, "_run", lambda command: f"{active}\n")
        (tmp_path / state.ORDER).parent.mkdir(exist_ok=True)
        (tmp_path / state.ORDER).write_text(json.dumps({"run": run, "purpose": "deploy", **more}))

    return opened


def test_the_lease_of_a_run_that_is_known_to_be_dead_holds_nobody_up_and_the_ledger_says_so(tmp_path: Path) -> None:
    lease.take(str(tmp_path), wish("run-1"))
    with pytest.raises(Problem):
        lease.take(str(tmp_path), wish("run-2", ended="run-0"))
    assert lease.take(str(tmp_path), wish("run-2", ended="run-1"))["taken_over"]["run"] == "run-1"
    (entry,) = ledger(tmp_path)
    assert (entry["verdict"], entry["before"]["run"]) == ("ended", "run-1")


def test_a_lease_names_its_owner_and_its_end_and_only_root_reads_it(tmp_path: Path) -> None:
    before = time.time()
    assert lease.take(str(tmp_path), wish()) == {"taken_over": None}
    found = held(tmp_path)
    assert (found["owner"], found["controller"], found["run"], found["purpose"]) == (
        "anna@run-1",
        "desk",
        "run-1",
        "deploy",
    )
    assert before <= found["since"] <= time.time()
    assert found["expires"] - found["since"] == pytest.approx(60)
    assert (tmp_path / state.LEASE).stat().st_mode & 0o777 == 0o600
    assert ledger(tmp_path) == []


def test_a_second_run_is_told_who_has_the_host_since_when_and_how_to_take_it(tmp_path: Path) -> None:
    lease.take(str(tmp_path), wish())
    with pytest.raises(Problem) as caught:
        lease.take(str(tmp_path), wish("run-2"))
    said = f"{caught.value.what} {caught.value.next_step}"
    assert caught.value.code == "leased"
    for words in ("anna@run-1", "deploy run-1", "since", "ends at", "UTC", "--data lease_break=true"):
        assert words in said
    assert held(tmp_path)["run"] == "run-1"


def test_the_same_run_takes_it_again_and_keeps_its_beginning(tmp_path: Path) -> None:
    lease.take(str(tmp_path), wish())
    since = held(tmp_path)["since"]
    assert lease.take(str(tmp_path), wish(seconds=600)) == {"taken_over": None}
    assert held(tmp_path)["since"] == since
    assert held(tmp_path)["expires"] > since + 599


@pytest.mark.parametrize(("breaks", "how"), [(False, "expired"), (True, "broken")])
def test_an_expired_or_broken_lease_is_taken_over_and_noted(tmp_path: Path, breaks: bool, how: str) -> None:
    lease.take(str(tmp_path), wish())
    if not breaks:
        expire(tmp_path)
    taken = lease.take(str(tmp_path), wish("run-2", **{"break": breaks}))["taken_over"]
    assert taken["run"] == "run-1"
    assert held(tmp_path)["run"] == "run-2"
    (entry,) = ledger(tmp_path)
    assert (entry["step"], entry["run"], entry["verdict"], entry["before"]["owner"]) == (
        "lease",
        "run-2",
        how,
        "anna@run-1",
    )


def test_a_renewed_lease_lasts_longer_and_one_that_is_lost_cannot_be_renewed(tmp_path: Path) -> None:
    lease.take(str(tmp_path), wish())
    lease.renew(str(tmp_path), "run-1", 900)
    assert held(tmp_path)["expires"] > time.time() + 890
    lease.take(str(tmp_path), wish("run-2", **{"break": True}))
    with pytest.raises(Problem) as caught:
        lease.renew(str(tmp_path), "run-1", 900)
    assert caught.value.code == "lease-lost"
    assert "anna@run-2" in caught.value.what


def test_an_expired_lease_that_nobody_took_can_still_be_renewed(tmp_path: Path) -> None:
    lease.take(str(tmp_path), wish())
    expire(tmp_path)
    lease.renew(str(tmp_path), "run-1", 60)
    assert held(tmp_path)["expires"] > time.time()


def test_only_the_own_lease_is_given_back(tmp_path: Path) -> None:
    lease.take(str(tmp_path), wish())
    assert not lease.release(str(tmp_path), "run-2")
    assert lease.release(str(tmp_path), "run-1")
    assert not lease.release(str(tmp_path), "run-1")
    assert state.lease(tmp_path) is None


def test_a_lease_is_kept_while_an_order_of_its_run_is_open(tmp_path: Path, order: Any) -> None:
    lease.take(str(tmp_path), wish())
    order("run-1")
    assert not lease.release(str(tmp_path), "run-1")
    assert held(tmp_path)["run"] == "run-1"


def test_nobody_breaks_into_an_order_that_the_host_carries_out(tmp_path: Path, order: Any) -> None:
    order("run-1")
    with pytest.raises(Problem) as caught:
        lease.take(str(tmp_path), wish("run-2", **{"break": True}))
    assert caught.value.code == "turn-open"
    assert "run-1" in caught.value.what
    lease.take(str(tmp_path), wish("run-1"))


@pytest.mark.parametrize(("active", "more"), [("failed", {}), ("active", {"deadline": 1.0})])
def test_an_order_that_nobody_carries_out_any_more_stops_nobody(
    tmp_path: Path, order: Any, active: str, more: dict[str, Any]
) -> None:
    order("run-1", active, **more)
    assert lease.take(str(tmp_path), wish("run-2")) == {"taken_over": None}


def test_of_many_runs_at_the_same_moment_one_gets_it(tmp_path: Path) -> None:
    outcomes: list[str] = []

    def try_it(number: int) -> None:
        try:
            lease.take(str(tmp_path), wish(f"run-{number}"))
            outcomes.append("taken")
        except Problem as problem:
            outcomes.append(problem.code)

    threads = [threading.Thread(target=try_it, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["leased"] * 7 + ["taken"]


def test_a_lease_file_that_makes_no_sense_holds_nobody_up(tmp_path: Path) -> None:
    (tmp_path / state.LEASE).parent.mkdir()
    (tmp_path / state.LEASE).write_text("{half")
    lease.take(str(tmp_path), wish())
    assert held(tmp_path)["run"] == "run-1"
