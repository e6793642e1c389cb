"""The forecast and the truth on a practice host: engines report the memory of its emulated card."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from rackhand.lab.fleet import Fleet
from tests.lab.deploying import Result
from tests.lab.serving import Rack

pytestmark = pytest.mark.lab

RECORD = "/opt/rackhand/current/measured.json"


@pytest.fixture(scope="module")
def rack(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rack]:
    yield Rack.of(fleet, tmp_path_factory.mktemp("measured"), "measured")
    fleet.remove("measured")


@pytest.fixture(scope="module")
def deployed(rack: Rack) -> Result:
    return rack.serves()


def memory(result: Result, rack: Rack) -> dict[str, Any]:
    return dict(result.host(rack.name)["instances"][0]["memory"])


def test_a_forecast_that_holds_is_shown_and_kept_beside_the_release_and_in_the_ledger(
    rack: Rack, deployed: Result
) -> None:
    found = memory(deployed, rack)
    assert not found["off"]
    assert abs(found["percent"]) < 2
    assert found["words"] in deployed.printed
    assert deployed.host(rack.name)["warnings"] == []
    assert rack.does(f"stat -c %a {RECORD}").strip() == "644"
    (record,) = json.loads(rack.does(f"cat {RECORD}"))["instances"]
    assert record["reported"]["kv_tokens"] == found["reported_tokens"]
    assert record["predicted_tokens"] == found["predicted_tokens"]
    ledger = [json.loads(line) for line in rack.does("cat /opt/rackhand/ledger.jsonl").splitlines()]
    noted = next(line for line in ledger if line["step"] == "measured")
    assert noted["memory"]["tiny-0"]["kv_tokens"] == found["reported_tokens"]
    print(found["words"])


def test_a_second_run_reads_the_record_and_changes_nothing(rack: Rack, deployed: Result) -> None:
    again = rack.serves()
    assert again.changed(rack.name) == []
    assert memory(again, rack)["reported_tokens"] == memory(deployed, rack)["reported_tokens"]
    assert again.host(rack.name)["ssh_commands"] <= 12


def test_an_engine_that_holds_a_fifth_less_is_a_warning_and_the_next_plan_knows_it(
    rack: Rack, deployed: Result
) -> None:
    rack.breaks("less-cache 20")
    off = rack.serves(serve_max_model_len=512)
    (warning,) = off.host(rack.name)["warnings"]
    assert warning["code"] == "forecast-off"
    assert "[forecast-off]" in off.printed
    assert off.host(rack.name)["status"] == "healthy"
    found = memory(off, rack)
    assert found["off"]
    assert 23 < found["percent"] < 27
    again = rack.serves(serve_max_model_len=512)
    assert again.changed(rack.name) == []
    assert again.host(rack.name)["warnings"] == []
    plan = " ".join(again.host(rack.name)["plan"])
    assert f"{found['reported_tokens']:,} tokens" in plan
    assert "as engines reported here" in plan


def test_a_setting_that_costs_cache_is_named_in_the_plan_before_the_switch(rack: Rack, deployed: Result) -> None:
    rack.breaks()
    plan = " ".join(rack.serves(serve_gpu_memory_utilization=0.6).host(rack.name)["plan"])
    assert "those of the running release reported" in plan
