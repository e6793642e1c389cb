"""Capacity: who may go out of service while enough servers of its model stay healthy."""

import pytest

from rackhand.errors import RackhandError
from rackhand.rollout.budget import Failure, exhausted
from rackhand.rollout.capacity import Capacity, check
from rackhand.rollout.intent import Intent, Result
from rackhand.rollout.policy import Policy
from tests.rollouts import LOST, bare, rolled_back, serving


def capacity(*intents: Intent, keep: int | None = None, at_once: int = 1) -> Capacity:
    policy = Policy(min_replicas="auto" if keep is None else keep, instances_at_once=at_once)
    return Capacity.of(policy, intents)


def test_with_auto_one_server_stays_where_another_host_has_the_model() -> None:
    one, other = serving(1), serving(1)
    start = capacity(one, other)
    assert start.fits(one)
    assert not start.begun(one).fits(other)
    assert start.begun(one).ended(one, Result(good=True, serves={"llama": 1})).fits(other)


def test_with_auto_the_only_host_of_a_model_may_go() -> None:
    assert capacity(serving(1), serving(1, model="qwen")).fits(serving(1))


def test_with_auto_the_last_healthy_host_stays_when_the_others_were_lost() -> None:
    one, other = serving(1), serving(1)
    assert not capacity(one, other).begun(one).ended(one, LOST).fits(other)


def test_a_host_that_rolled_back_counts_again() -> None:
    one, other = serving(1), serving(1)
    assert capacity(one, other).begun(one).ended(one, rolled_back()).fits(other)


def test_a_host_that_serves_nothing_takes_nothing_out() -> None:
    assert capacity(bare(), serving(1), keep=5).fits(bare())


def test_a_host_changes_a_few_servers_at_a_time() -> None:
    four = serving(4)
    assert capacity(four, keep=3).fits(four)
    assert not capacity(four, keep=3, at_once=2).fits(four)
    assert capacity(four, keep=2, at_once=2).fits(four)


def test_a_reboot_takes_all_servers_of_a_host() -> None:
    four = serving(4, whole=True)
    assert not capacity(four, serving(2), keep=3).fits(four)
    assert capacity(four, serving(3), keep=3).fits(four)


def test_servers_that_will_not_be_there_any_more_do_not_stay() -> None:
    fewer = Intent(disturbs=True, serves={"llama": 4}, will_serve={"llama": 2})
    assert capacity(fewer, keep=1).fits(fewer)
    assert not capacity(fewer, keep=2).fits(fewer)


def test_a_model_that_nobody_will_serve_is_not_kept() -> None:
    leaving = Intent(disturbs=True, serves={"llama": 1}, will_serve={"qwen": 1})
    assert capacity(leaving, keep=1).fits(leaving)
    assert not capacity(leaving, serving(1), keep=2).fits(leaving)


def test_a_host_whose_gate_is_not_through_does_not_count_yet() -> None:
    one, quiet = serving(1), serving(1, disturbs=False)
    doubtful = capacity(one, quiet).unproven(quiet)
    assert not doubtful.fits(one)
    assert doubtful.proven({"llama": 1}).fits(one)


def refused(intents: dict[str, Intent], waves: list[list[str]], keep: int) -> str:
    with pytest.raises(RackhandError) as error:
        check(capacity(*intents.values(), keep=keep), intents, waves)
    assert error.value.code == "capacity"
    return str(error.value)


def test_what_can_never_be_kept_is_refused_with_numbers_and_what_to_set() -> None:
    said = refused({"a": serving(1), "b": serving(1)}, [["a"], ["b"]], keep=2)
    assert "a: 2 healthy servers of llama can be had, the turn of a takes out 1" in said
    assert "rollout_min_replicas is 2" in said
    assert 'set rollout_min_replicas to at most 1 or to "auto", or add a host' in said


def test_a_reboot_that_takes_too_many_is_refused_in_words() -> None:
    assert "takes out 4 together" in refused({"a": serving(4, whole=True)}, [["a"]], keep=1)


def test_hosts_that_come_later_in_the_same_wave_may_make_room() -> None:
    intents = {"a": serving(1), "b": bare()}
    check(capacity(*intents.values(), keep=1), intents, [["a", "b"]])
    assert "1 healthy server of llama" in refused(intents, [["a"], ["b"]], keep=1)


def test_a_fleet_that_moves_to_another_model_is_not_refused() -> None:
    leaving = Intent(disturbs=True, serves={"llama": 1}, will_serve={"qwen": 1})
    intents = {"a": leaving, "b": leaving}
    check(capacity(*intents.values()), intents, [["a"], ["b"]])
    check(capacity(*intents.values(), keep=2), intents, [["a"], ["b"]])


def test_with_auto_no_fleet_is_refused() -> None:
    shapes = [serving(1), serving(4, whole=True), bare(), Intent(disturbs=True, serves={"llama": 2}, will_serve={})]
    for one in shapes:
        for other in shapes:
            for third in shapes:
                intents = {"a": one, "b": other, "c": third}
                check(capacity(*intents.values()), intents, [["a"], ["b", "c"]])


def failure(host: str, how: str = "unreachable", canary: bool = False) -> Failure:
    return Failure(host=host, how=how, canary=canary)


def test_the_budget_holds_up_to_its_last_failure() -> None:
    assert exhausted([], 0) == ""
    assert exhausted([failure("a")], 1) == ""
    assert exhausted([failure("a")], 0) == "1 host failed and rollout_max_failures is 0: a (unreachable)"


def test_a_failed_canary_always_stops() -> None:
    assert exhausted([failure("a", "rolled back", canary=True)], 5) == "the canary failed: a (rolled back)"


def test_a_sentence_names_three_hosts_and_counts_the_others() -> None:
    said = exhausted([failure(f"h{number}") for number in range(5)], 2)
    assert said.startswith("5 hosts failed and rollout_max_failures is 2: h0 (unreachable), ")
    assert said.endswith("h2 (unreachable), and 2 more")
