"""The picture of a rollout is true: what is drawn lies where it happened, whatever the times of a report are."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rackhand.outcome import HostOutcome, HostStatus, RunOutcome, TurnEvent, TurnOutcome, WaveOutcome
from rackhand.page.drawing import LEFT, RIGHT, WIDTH, Box, Mark, Timeline
from rackhand.page.phases import Lane, Phase, lanes, merged, outages
from rackhand.page.timeline import timeline
from tests import upgrades

PHASES = (
    *("armed", "drain", "drained", "stop", "stopped", "freed", "held", "switched", "start", "answering", "gated"),
    *(
        "serving",
        "accepted",
        "confirmed",
        "failed",
        "restoring",
        "restored",
        "unchanged",
        "lost",
        "closed",
        "unheard-of",
    ),
)
SECONDS = st.floats(min_value=0, max_value=100_000, allow_nan=False, width=32)
EVENTS = st.lists(
    st.builds(
        TurnEvent,
        at_s=st.floats(min_value=-1000, max_value=200_000, allow_nan=False),
        phase=st.sampled_from(PHASES),
        instance=st.sampled_from(["", "tiny-0", "tiny-1"]),
    ),
    max_size=20,
).map(tuple)
TURNS = st.builds(
    TurnOutcome,
    wave=st.integers(1, 3),
    began_s=SECONDS,
    ended_s=st.none() | SECONDS,
    before=st.sampled_from(["", "0a11"]),
    events=EVENTS,
)


@st.composite
def rollouts(draw: st.DrawFn) -> RunOutcome:
    """Draw runs whose times need not fit together: hosts outside of every wave, turns outside of theirs."""
    turns = draw(st.lists(st.none() | TURNS, min_size=1, max_size=15))
    fleet = draw(st.sampled_from([1, 20]))
    hosts = [
        HostOutcome(name=f"gpu-{number}", status=draw(st.sampled_from(HostStatus)), turn=turn)
        for number, turn in enumerate(turns * fleet)
    ]
    waves = [
        WaveOutcome(
            number=number,
            hosts=tuple(host.name for place, host in enumerate(hosts) if place % 4 == number),
            began_s=draw(st.none() | SECONDS),
            ended_s=draw(st.none() | SECONDS),
        )
        for number in range(1, 4)
    ]
    made = upgrades.rollout(hosts)
    return replace(made, waves=tuple(waves), seconds=draw(SECONDS))


def drawn(run: RunOutcome) -> Timeline:
    found = timeline(run)
    assert found is not None
    return found


@given(rollouts())
def test_everything_lies_in_its_row_its_row_in_its_wave_and_its_wave_in_the_picture(run: RunOutcome) -> None:
    found = timeline(run)
    assert (found is None) is (not any(host.turn for host in run.hosts))
    for band in found.bands if found else ():
        assert found
        assert LEFT - 0.01 <= band.x <= band.x + band.width <= WIDTH - RIGHT + 0.01
        assert band.top + band.height <= found.height
        for row in band.rows:
            assert band.top <= row.y
            assert row.y + row.row.height <= band.top + band.height + 0.01
            shapes: tuple[Box | Mark, ...] = (*row.boxes, *row.outages, *row.failures)
            for shape in shapes:
                assert band.x - 0.01 <= shape.x <= shape.x + shape.width <= band.x + band.width + 0.01
                assert row.y <= shape.y <= shape.y + shape.height <= row.y + row.row.height + 0.01


@given(rollouts())
def test_waves_rows_and_the_boxes_of_a_lane_follow_each_other_and_never_overlap(run: RunOutcome) -> None:
    found = timeline(run)
    for band, after in pairwise(found.bands if found else ()):
        assert band.top + band.height <= after.y + 0.01
    for band in found.bands if found else ():
        for row, after_row in pairwise(band.rows):
            assert row.y + row.row.height <= after_row.y + 0.01
        for row in band.rows:
            for box, after_box in pairwise(row.boxes):
                same_lane = box.y + box.height / 2 == pytest.approx(after_box.y + after_box.height / 2)
                assert not same_lane or box.x + box.width <= after_box.x + 0.01


@given(rollouts())
def test_every_host_of_a_wave_has_exactly_one_row_in_the_order_of_the_wave(run: RunOutcome) -> None:
    found = timeline(run)
    for wave, band in zip(run.waves, found.bands if found else (), strict=False):
        turned = [host.name for host in run.hosts if host.turn and host.name in wave.hosts]
        assert [row.row.name for row in band.rows if row.row.lanes] == turned


@given(TURNS)
def test_a_lane_has_no_gap_and_covers_its_turn(turn: TurnOutcome) -> None:
    found = lanes(turn, 100_000.0)
    end_s = max(turn.began_s, 100_000.0 if turn.ended_s is None else turn.ended_s)
    for lane in (*found, merged(found)):
        assert all(span.seconds > 0 for span in lane.spans)
        assert all(one.end_s == two.begin_s and one.phase is not two.phase for one, two in pairwise(lane.spans))
        assert sum(span.seconds for span in lane.spans) == pytest.approx(end_s - turn.began_s)


@given(TURNS)
def test_a_host_is_out_of_service_exactly_when_no_lane_serves(turn: TurnOutcome) -> None:
    found = lanes(turn, 100_000.0)
    gaps = outages(found)
    served = any(lane.spans and lane.spans[0].phase is Phase.SERVING for lane in found)
    for second in {cut + 1e-4 for lane in found for span in lane.spans for cut in (span.begin_s, span.end_s - 2e-4)}:
        around = [span for lane in found for span in lane.spans if span.begin_s < second < span.end_s]
        if around:
            out = not any(span.phase is Phase.SERVING for span in around)
            assert any(begin < second < end for begin, end in gaps) is (served and out)


def phases(lane: Lane) -> list[Phase]:
    return [span.phase for span in lane.spans]


def only_lane(host: HostOutcome) -> Lane:
    assert host.turn
    (lane,) = lanes(host.turn, 1000)
    return lane


FORWARD = [Phase.SERVING, Phase.DRAIN, Phase.STOP, Phase.SWITCH, Phase.START, Phase.GATE]


def test_an_upgrade_goes_through_its_phases_for_as_long_as_the_host_said() -> None:
    lane = only_lane(upgrades.upgraded("gpu-a1"))
    assert phases(lane) == [*FORWARD, Phase.SERVING]
    lasted = {span.phase: round(span.seconds, 2) for span in lane.spans}
    assert (lasted[Phase.DRAIN], lasted[Phase.STOP], lasted[Phase.START]) == (2.1, 1.8, 27.9)


def test_from_its_failure_on_a_host_is_on_its_way_back() -> None:
    host = upgrades.rolled_back("gpu-a1")
    assert phases(only_lane(host)) == [*FORWARD, Phase.RESTORE, Phase.SERVING]
    (row,) = drawn(upgrades.AT_THE_CANARY).bands[0].rows
    (failure,) = row.failures
    (restore,) = [box for box in row.boxes if box.phase is Phase.RESTORE]
    assert failure.x == pytest.approx(restore.x)
    assert failure.title == f"gpu-a1: {upgrades.REASON}"


def test_the_outage_that_is_drawn_is_the_one_that_was_measured() -> None:
    host = upgrades.upgraded("gpu-a1")
    assert host.turn
    ((begin, end),) = outages(lanes(host.turn, 1000))
    assert end - begin == pytest.approx(host.turn.out_s, abs=0.1)


def changed(*steps: tuple[str, float], before: str = upgrades.OLD, ended_s: float | None = 100.0) -> TurnOutcome:
    return TurnOutcome(wave=1, began_s=0.0, ended_s=ended_s, before=before, events=tuple(upgrades.told(steps, 0.0)))


def test_a_host_that_waits_for_its_driver_is_held_until_the_switch() -> None:
    steps = (*upgrades.STOP, ("held", 1.0), ("armed", 60.0), ("switched", 0.1), *upgrades.START, ("accepted", 0.0))
    # `held` is of the host as a whole.
    turn = changed(*steps)
    turn = replace(
        turn,
        events=tuple(replace(each, instance="" if each.phase == "held" else each.instance) for each in turn.events),
    )
    (lane,) = lanes(turn, 100)
    assert phases(lane)[2:6] == [Phase.STOP, Phase.SWITCH, Phase.HELD, Phase.SWITCH]
    assert lane.spans[4].seconds == pytest.approx(60.1)


def test_a_host_that_lost_both_releases_serves_nothing_to_the_end() -> None:
    turn = changed(*upgrades.STOP, *upgrades.FAILED)
    turn = replace(turn, events=(*turn.events, TurnEvent(at_s=90.0, phase="lost")))
    (lane,) = lanes(turn, 100)
    assert phases(lane)[-2:] == [Phase.RESTORE, Phase.DOWN]
    assert outages((lane,))[-1][1] == 100.0


def test_what_fails_before_anything_was_disturbed_serves_on() -> None:
    turn = changed(("drain", 1.0), ("failed", 5.0))
    turn = replace(turn, events=(*turn.events, TurnEvent(at_s=7.0, phase="unchanged")))
    (lane,) = lanes(turn, 100)
    assert phases(lane) == [Phase.SERVING, Phase.DRAIN, Phase.RESTORE, Phase.SERVING]


def test_a_first_deploy_takes_nothing_out_of_service() -> None:
    (lane,) = lanes(changed(("armed", 1.0), ("switched", 1.0), *upgrades.START, before=""), 100)
    assert phases(lane) == [Phase.ABSENT, Phase.START, Phase.GATE, Phase.SERVING]
    assert outages((lane,)) == ()


def test_one_instance_after_the_other_leaves_the_host_in_service() -> None:
    first = tuple(upgrades.told((*upgrades.STOP, *upgrades.START), 0.0, "tiny-0"))
    second = tuple(upgrades.told((*upgrades.STOP, *upgrades.START), first[-1].at_s, "tiny-1"))
    turn = replace(changed(ended_s=second[-1].at_s + 1), events=(*first, *second))
    found = lanes(turn, 1000)
    assert [lane.name for lane in found] == ["tiny-0", "tiny-1"]
    assert outages(found) == ()
    assert Phase.START in phases(merged(found))


def test_an_instance_that_is_left_as_it_is_stays_in_service_while_it_is_asked() -> None:
    kept = tuple(upgrades.told((("answering", 60.0), ("gated", 1.0), ("serving", 0.1)), 0.0, "tiny-0"))
    changing = (*upgrades.STOP, *upgrades.START, *upgrades.STOP, *upgrades.START)
    other = tuple(upgrades.told(changing, 0.0, "tiny-1"))
    other_lane, kept_lane = lanes(replace(changed(), events=(*kept, *other)), 100)
    assert phases(kept_lane) == [Phase.SERVING]
    assert phases(other_lane).count(Phase.SERVING) == 3
    assert outages((kept_lane, other_lane)) == ()


def test_an_instance_that_the_new_release_has_no_more_ends_with_its_stop() -> None:
    gone = tuple(upgrades.told(upgrades.STOP, 0.0, "old-0"))
    new = tuple(upgrades.told((*upgrades.START, ("accepted", 0.0)), gone[-1].at_s, "new-0"))
    old_lane, new_lane = lanes(replace(changed(), events=(*gone, *new)), 100)
    assert phases(old_lane)[-2:] == [Phase.STOP, Phase.ABSENT]
    assert phases(new_lane)[0] is Phase.ABSENT


def test_a_turn_without_events_is_drawn_as_a_turn() -> None:
    (lane,) = lanes(changed(), 100)
    assert phases(lane) == [Phase.TURN]
