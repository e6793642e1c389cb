"""The table of options is made from dumps of real parsers, the same bytes each time."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from rackhand.catalog import make_options
from rackhand.catalog.vllm_options import OptionBook, OptionRow

DUMPS = Path(__file__).parent / "fixtures/parser_dumps"


@pytest.fixture(scope="module")
def rows() -> dict[str, OptionRow]:
    made = yaml.safe_load(make_options.text(make_options.releases(DUMPS)))
    return {row.name: row for row in OptionBook.model_validate(made).options}


def test_the_same_dumps_make_the_same_bytes_in_any_order() -> None:
    dumps = make_options.releases(DUMPS)
    shuffled = {version: list(reversed(dump)) for version, dump in dumps.items()}
    assert make_options.text(dumps) == make_options.text(shuffled)


def test_every_option_of_every_dump_is_reproduced(rows: dict[str, OptionRow]) -> None:
    for path in DUMPS.glob("*.json"):
        for action in json.loads(path.read_text()):
            long = {option.removeprefix("--") for option in action["opts"] if option.startswith("--")} - {"help"}
            series = make_options.series(path.stem)
            found = [row.at(series) for row in rows.values() if row.there(series)]
            known = {name for option in found for name in (option.name, *option.also, *option.off)}
            assert long <= known


def test_an_option_that_came_or_went_says_when(rows: dict[str, OptionRow]) -> None:
    assert (rows["max-num-queued-reqs"].since, rows["max-num-queued-reqs"].until) == ("0.29", None)
    assert (rows["max-num-partial-prefills"].since, rows["max-num-partial-prefills"].until) == (None, "0.29")


def test_a_value_that_moved_is_known_before_and_after(rows: dict[str, OptionRow]) -> None:
    assert rows["allowed-origins"].at("0.29").default == ["*"]
    assert rows["allowed-origins"].at("0.33").default == []
    assert rows["mamba-cache-mode"].at("0.26").choices == ("align", "all", "none")
    assert rows["mamba-cache-mode"].at("0.33").choices == ("align", "none")
    assert rows["gpu-memory-utilization"].at("0.29").also == ()
    assert rows["gpu-memory-utilization"].at("0.33").also == ("device-memory-utilization",)


@pytest.mark.parametrize(
    ("name", "kind", "many"),
    [
        ("max-num-seqs", "int", False),
        ("max-num-batched-tokens", "count", False),
        ("num-gpu-blocks-override", "int", False),
        ("gpu-memory-utilization", "float", False),
        ("enable-prefix-caching", "flag", False),
        ("headless", "switch", False),
        ("served-model-name", "text", True),
        ("moe-backend", "word", False),
        ("allowed-origins", "json", False),
        ("hf-overrides", "any", False),
    ],
)
def test_a_converter_of_the_parser_becomes_a_type(name: str, kind: str, many: bool, rows: dict[str, OptionRow]) -> None:
    assert (rows[name].type, rows[name].many) == (kind, many)


def test_the_newest_release_of_a_series_speaks_for_it(tmp_path: Path) -> None:
    for version in ("0.33.0", "0.33.1", "0.33.10"):
        (tmp_path / f"{version}.json").write_text("[]")
    assert list(make_options.releases(tmp_path)) == ["0.33.10"]


def test_an_option_that_went_and_came_back_is_not_told_wrong() -> None:
    option: dict[str, Any] = {"opts": ["--x"], "default": "None", "type": "int", "choices": None, "nargs": None}
    option["action"] = "_StoreAction"
    with pytest.raises(SystemExit, match="came back"):
        make_options.text({"0.1.0": [option], "0.2.0": [], "0.3.0": [option]})
