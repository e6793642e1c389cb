"""Waves: the canary first and alone, then growing, every host exactly once."""

import itertools

import pytest

from rackhand.errors import RackhandError
from rackhand.rollout.intent import Member
from rackhand.rollout.policy import Policy, agreed
from rackhand.rollout.waves import plan_waves, refuse_unknown
from rackhand.settings import Settings

FLEET = [Member(name=f"h{number}", groups=("blue" if number > 6 else "green",)) for number in range(1, 9)]
NAMES = [member.name for member in FLEET]


def planned(*sizes: int | str, canary: tuple[str, ...] = (), changing: list[str] | None = None) -> list[str]:
    """Return waves as text, such as "h1" and "h2 h3"."""
    policy = Policy(waves=sizes, canary=canary)
    return [" ".join(wave) for wave in plan_waves(NAMES if changing is None else changing, FLEET, policy)]


def test_the_first_host_goes_alone_and_then_a_quarter_at_a_time() -> None:
    assert planned(1, "25%") == ["h1", "h2 h3", "h4 h5", "h6 h7", "h8"]


def test_the_last_size_repeats() -> None:
    assert planned(1, 2, 3) == ["h1", "h2 h3", "h4 h5 h6", "h7 h8"]
    assert planned(3) == ["h1 h2 h3", "h4 h5 h6", "h7 h8"]


def test_a_percentage_is_one_of_all_hosts_and_at_least_one() -> None:
    assert planned("1%") == NAMES
    assert planned(1, "99%") == ["h1", "h2 h3 h4 h5 h6 h7 h8"]
    assert planned("100%") == [" ".join(NAMES)]


def test_named_canaries_take_the_place_of_the_first_size() -> None:
    assert planned(1, "50%", canary=("h5", "h3")) == ["h3 h5", "h1 h2 h4 h6", "h7 h8"]


def test_a_group_can_be_the_canary() -> None:
    assert planned(1, "50%", canary=("blue",)) == ["h7 h8", "h1 h2 h3 h4", "h5 h6"]


def test_a_canary_is_known_without_its_connector() -> None:
    fleet = [Member(name="@lab/rack1"), Member(name="@lab/rack2")]
    assert plan_waves(["@lab/rack1", "@lab/rack2"], fleet, Policy(canary=("rack2",))) == (
        ("@lab/rack2",),
        ("@lab/rack1",),
    )


def test_only_hosts_that_change_are_dealt_so_that_the_first_of_them_goes_alone() -> None:
    assert planned(1, "25%", changing=["h8", "h6", "h5"]) == ["h5", "h6 h8"]


def test_a_canary_that_has_nothing_to_change_leaves_its_place_to_the_first_that_has() -> None:
    assert planned(1, "50%", canary=("h1",), changing=NAMES[1:]) == ["h2", "h3 h4 h5 h6", "h7 h8"]


def test_no_sizes_mean_everybody_after_the_canary() -> None:
    assert planned() == [" ".join(NAMES)]
    assert planned(canary=("h2",)) == ["h2", "h1 h3 h4 h5 h6 h7 h8"]


def test_where_nobody_changes_there_are_no_waves() -> None:
    assert planned(1, "25%", changing=[]) == []


@pytest.mark.parametrize("count", range(1, 9))
def test_everybody_is_in_exactly_one_wave_in_inventory_order(count: int) -> None:
    for sizes in itertools.product((1, 2, "25%", "60%"), repeat=2):
        for canary in ((), ("h2",), ("blue",), ("blue", "h1"), ("h9",)):
            waves = plan_waves(NAMES[:count], FLEET, Policy(waves=sizes, canary=canary))
            dealt = [name for wave in waves for name in wave]
            assert sorted(dealt) == NAMES[:count]
            assert all(list(wave) == sorted(wave) for wave in waves)
            assert [name for wave in waves[1:] for name in wave] == sorted(dealt[len(waves[0]) :])


def test_an_unknown_canary_is_refused_with_what_was_meant() -> None:
    refuse_unknown(("h1", "blue"), FLEET)
    with pytest.raises(RackhandError, match=r"'blu', which is no host and no group .* \(did you mean 'blue'\?\)"):
        refuse_unknown(("h1", "blu"), FLEET)


def settings(**values: object) -> Settings:
    return Settings.model_validate({"model_name": "llama", "model_catalogue": "llama-3.1-8b-instruct", **values})


def test_one_run_has_one_policy() -> None:
    both = {"a": settings(rollout_soak_s=30), "b": settings(rollout_soak_s=30, serve_port=9000)}
    assert agreed(both) == Policy(soak_s=30)
    assert agreed({}) == Policy()


def test_hosts_that_disagree_are_named_with_the_key() -> None:
    with pytest.raises(RackhandError, match="rollout_max_out is None on a and 2 on c") as refused:
        agreed({"a": settings(), "b": settings(), "c": settings(rollout_max_out=2)})
    assert (refused.value.code, refused.value.where) == ("settings", "c")
