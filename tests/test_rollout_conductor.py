"""The conductor: everybody exactly once, wave after wave, and when it stops, nobody begins."""

import time

import gevent  # type: ignore[import-untyped]
import pytest

from rackhand.errors import RackhandError
from rackhand.rollout.intent import Member
from rackhand.rollout.policy import Policy
from tests.rollouts import LOST, Actor, Rollout, actors, bare, rolled_back, serving

NOW = Policy(min_replicas=0)


def test_a_wave_begins_when_the_one_before_it_is_through() -> None:
    run = Rollout(actors(5), Policy(waves=(1, 2), min_replicas=0)).run()
    assert run.planned == [("h1",), ("h2", "h3"), ("h4", "h5")]
    assert run.begun == ["h1", "h2", "h3", "h4", "h5"]
    assert run.story.index(("end", "h1", 3)) < [what[:2] for what in run.story].index(("begin", "h2"))
    assert [verdict.wave for verdict in run.verdicts.values()] == [1, 2, 2, 3, 3]
    assert all(verdict.admitted and verdict.result for verdict in run.verdicts.values())
    assert run.conductor.stopped == ""


def test_waves_and_turns_know_their_times() -> None:
    run = Rollout(actors(2), NOW).run()
    assert [(wave.number, wave.began_s, wave.ended_s) for wave in run.conductor.waves] == [(1, 0, 3), (2, 3, 6)]
    assert [(each.began_s, each.ended_s) for each in run.verdicts.values()] == [(0, 3), (3, 6)]


def test_a_fleet_with_nothing_to_change_waits_and_soaks_for_nobody() -> None:
    fleet = actors(4, h1=serving(1, disturbs=False), h2=serving(2, disturbs=False))
    for actor in fleet:
        actor.intent = serving(1, disturbs=False)
    run = Rollout(fleet, Policy(soak_s=600)).run()
    assert (run.planned, run.slept) == ([], 0)
    assert sorted(run.begun) == ["h1", "h2", "h3", "h4"]
    assert {verdict.wave for verdict in run.verdicts.values()} == {0}
    assert run.stream.getvalue() == ""


def test_hosts_that_change_nothing_pass_beside_the_first_wave() -> None:
    run = Rollout(actors(3, h2=serving(1, disturbs=False)), NOW).run()
    assert run.planned == [("h1",), ("h3",)]
    assert set(run.begun[:2]) == {"h1", "h2"}


def test_after_a_failed_canary_nobody_begins() -> None:
    run = Rollout(actors(4, h1=rolled_back()), Policy(max_failures=3)).run()
    assert run.begun == ["h1"]
    assert run.conductor.stopped == "the canary failed: h1 (rolled back)"
    assert [run.verdicts[name].admitted for name in ("h1", "h2", "h4")] == [True, False, False]
    assert run.verdicts["h4"].reason == run.conductor.stopped
    assert [wave.began_s for wave in run.conductor.waves[1:]] == [None, None, None]


def test_those_in_their_turn_end_it_when_another_fails() -> None:
    fleet = actors(6, h2=rolled_back())
    fleet[2].moments = 9
    run = Rollout(fleet, Policy(waves=(1, 2), min_replicas=0)).run()
    assert run.begun == ["h1", "h2", "h3"]
    assert run.ended == ["h1", "h2", "h3"]
    assert run.verdicts["h3"].result is not None
    assert run.verdicts["h3"].result.good
    assert "h2 (rolled back)" in run.conductor.stopped


def test_the_budget_counts_those_that_were_unreachable() -> None:
    fleet = actors(3)
    fleet[2].present, fleet[2].how = False, "unreachable"
    stopped = Rollout(fleet, NOW).run()
    assert stopped.begun == []
    assert stopped.conductor.stopped == "1 host failed and rollout_max_failures is 0: h3 (unreachable)"
    assert Rollout(fleet, Policy(max_failures=1, min_replicas=0)).run().begun == ["h1", "h2"]


def test_an_unreachable_canary_stops_whatever_the_budget() -> None:
    fleet = actors(3)
    fleet[1].present, fleet[1].how = False, "unreachable"
    run = Rollout(fleet, Policy(canary=("h2",), max_failures=3)).run()
    assert (run.begun, run.conductor.stopped) == ([], "the canary failed: h2 (unreachable)")


def test_the_first_host_that_can_is_the_canary_when_none_is_named() -> None:
    fleet = actors(3)
    fleet[0].present = False
    run = Rollout(fleet, Policy(max_failures=1, min_replicas=0)).run()
    assert run.planned == [("h2",), ("h3",)]


def test_a_host_that_changes_nothing_and_fails_its_gate_stops_the_waves() -> None:
    fleet = actors(3, h3=serving(1, disturbs=False))
    fleet[2].result, fleet[2].moments = LOST, 1
    run = Rollout(fleet, Policy(waves=(1,), min_replicas=0)).run()
    assert sorted(run.begun) == ["h1", "h3"]
    assert "h3 (lost)" in run.conductor.stopped


def test_a_failure_in_the_last_wave_stops_nobody() -> None:
    run = Rollout(actors(2, h2=rolled_back()), NOW).run()
    assert run.begun == ["h1", "h2"]
    assert run.conductor.stopped == ""


def test_a_soak_lies_between_waves_and_ends_when_the_rollout_stops() -> None:
    run = Rollout(actors(3), Policy(waves=(1,), soak_s=60)).run()
    assert run.slept == 120
    slow = actors(3, h3=serving(1, disturbs=False))
    slow[2].result, slow[2].moments = LOST, 10
    assert Rollout(slow, Policy(waves=(1,), soak_s=600, min_replicas=0)).run().slept < 30


def test_no_more_than_allowed_are_out_at_once_and_bare_hosts_do_not_count() -> None:
    run = Rollout(actors(7), Policy(waves=("100%",), max_out=2, min_replicas=0)).run()
    assert run.most_working == 2
    fleet = actors(5)
    for actor in fleet:
        actor.intent = bare()
    assert Rollout(fleet, Policy(waves=("100%",), max_out=1)).run().most_working == 5


def test_a_lost_host_stays_out_and_takes_a_place() -> None:
    run = Rollout(actors(4, h2=LOST), Policy(waves=(1,), max_out=1, max_failures=2, min_replicas=0)).run()
    assert run.begun == ["h1", "h2"]
    assert run.conductor.stopped == "h3 may not go out of service: h2 did not come back and rollout_max_out is 1"


def test_the_last_healthy_server_is_left_alone() -> None:
    run = Rollout(actors(3, h1=serving(0), h2=LOST), Policy(waves=(1,), max_failures=2)).run()
    assert run.begun == ["h1", "h2"]
    assert "h3 may not go out of service: llama has 1 healthy server" in run.conductor.stopped


def test_servers_that_can_never_be_kept_are_refused_and_the_others_pass() -> None:
    run = Rollout(actors(3, h3=serving(1, disturbs=False)), Policy(min_replicas=3)).run()
    assert run.begun == ["h3"]
    assert {name: getattr(error, "code", "") for name, error in run.errors.items()} == {
        "h1": "capacity", "h2": "capacity",
    }  # fmt: skip
    assert "rollout_min_replicas is 3" in run.conductor.stopped
    assert [wave.began_s for wave in run.conductor.waves] == [None, None]


def test_what_a_host_raised_comes_back_to_its_own_operation_alone() -> None:
    fleet = actors(3)
    fleet[1].work_fails = RackhandError("connection-lost", "gone", "h2", "look at it")
    run = Rollout(fleet, Policy(max_failures=1, min_replicas=0)).run()
    assert {name: str(error) for name, error in run.errors.items()} == {"h2": "h2: gone [connection-lost] → look at it"}
    assert run.begun == ["h1", "h2", "h3"]


def test_a_host_that_cannot_even_be_asked_counts_as_failed() -> None:
    fleet = actors(3)
    fleet[2].look_fails = OSError("unplugged")
    run = Rollout(fleet, NOW).run()
    assert (run.begun, list(run.errors)) == ([], ["h3"])
    assert "h3 (failed)" in run.conductor.stopped


def test_a_fault_of_the_conductor_ends_everybody_instead_of_hanging() -> None:
    run = Rollout(actors(3), NOW)

    def broken() -> list[Member]:
        raise KeyError("forgotten")

    run.conductor._fleet = broken
    run.run()
    assert {type(error) for error in run.errors.values()} == {KeyError}


def test_running_again_goes_on_where_it_was() -> None:
    first = Rollout(actors(5, h2=rolled_back()), Policy(waves=(1,), min_replicas=0)).run()
    assert first.begun == ["h1", "h2"]
    again = actors(5, h1=serving(1, disturbs=False))
    second = Rollout(again, Policy(waves=(1,), min_replicas=0)).run()
    assert second.planned == [("h2",), ("h3",), ("h4",), ("h5",)]
    assert sorted(second.begun) == ["h1", "h2", "h3", "h4", "h5"]


@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_pool_smaller_than_the_fleet_waits_for_nobody_who_has_not_arrived(size: int) -> None:
    fleet = actors(10)
    policy = Policy(canary=("h9",), waves=(1, 3), min_replicas=0)
    forward = Rollout(fleet, policy, pool=size).run()
    backward = Rollout(fleet, policy, pool=size).run([f"h{number}" for number in range(10, 0, -1)])
    assert forward.begun == backward.begun
    assert forward.begun[0] == "h9"
    assert len(forward.verdicts) == len(backward.verdicts) == 10


def test_five_hundred_hosts_cost_next_to_nothing() -> None:
    begun = time.process_time()
    fleet = [Actor(name=f"h{number:03}", moments=2) for number in range(500)]
    run = Rollout(fleet, Policy(max_out=50), pool=200).run()
    assert len(run.ended) == 500
    assert run.most_working == 50
    assert time.process_time() - begun < 2  # measured: 0.3 s


def test_an_operation_that_asks_late_gets_its_answer_at_once() -> None:
    run = Rollout(actors(3), NOW)
    gevent.spawn(run.attend, "h3").join()
    assert run.begun == ["h1", "h2", "h3"]
    assert run.conductor.attend("h1").wave == 1
