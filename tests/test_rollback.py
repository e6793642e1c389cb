"""A rollback goes to a release that is there, whole and fit for the host as it is now; otherwise it says why not."""

import json
from collections.abc import Sequence
from typing import Any

import pytest

from rackhand import rollback
from rackhand.errors import RackhandError
from rackhand.plan import Plan, Refusal
from rackhand.shelf import Shelved
from rackhand.survey import Survey
from tests.shelves import MADE, Laid, digest
from tests.surveys import DRIVER, state, survey, uuid

CARDS = ("h100", "h100")
ALL = rollback.resolve({}, (), "rack1")[0].settings
OLD, NEW, ODD = (
    Laid(number=1, venv=0, gpus=(uuid(0),)),
    Laid(number=2, venv=1, gpus=(uuid(1), uuid(0)), at=60),
    Laid(number=3, venv=1, gpus=("GPU-gone",), at=30),
)


def shelved(laid: Laid, **changes: Any) -> dict[str, Any]:
    """Return a release as a survey tells of it."""
    return {**laid.manifest(), "verdict": laid.verdict, "when": MADE + laid.at, **changes}


def host(*shelf: dict[str, Any], current: Laid | None = NEW, previous: Laid | None = OLD, **changes: Any) -> Survey:
    names = {"current": current.id if current else "", "previous": previous.id if previous else ""}
    return survey(*CARDS, shelf=list(shelf or map(shelved, (OLD, NEW, ODD))), state=state(**names), **changes)


def chosen(seen: Survey, wished: str = "") -> Shelved:
    found = rollback.choose("rack1", seen, wished, ALL)
    assert isinstance(found, Shelved)
    return found


def refused(seen: Survey, wished: str = "") -> list[str]:
    found = rollback.choose("rack1", seen, wished, ALL)
    assert isinstance(found, Refusal)
    assert all(reason.where == "rack1" and reason.next_step for reason in found.reasons)
    return [reason.code for reason in found.reasons]


def decided(seen: Survey, wished: str = "", **data: Any) -> tuple[Plan, Any]:
    wishes, _ = rollback.resolve(data, (), "rack1")
    made, completed, release = rollback.decide("rack1", seen, wishes, wished)
    assert isinstance(made, Plan)
    assert release is not None
    return made, completed


def test_without_an_id_the_previous_release_is_chosen() -> None:
    assert chosen(host()).id == OLD.id


@pytest.mark.parametrize("wished", [OLD.id, OLD.id[:12], NEW.id])
def test_an_id_chooses_its_release_also_the_current_one(wished: str) -> None:
    assert chosen(host(), wished).id == wished


def test_the_beginning_of_an_id_is_enough_where_only_one_begins_so() -> None:
    other = {**shelved(NEW), "id": "b0b0b0b0b0b0"}
    assert chosen(host(shelved(OLD), other), "b0").id == "b0b0b0b0b0b0"
    found = rollback.choose("rack1", host(), "a0", ALL)
    assert isinstance(found, Refusal)
    assert found.reasons[0].code == "ambiguous-release"
    assert f"3 releases begin with a0: {OLD.id}, {NEW.id}, {ODD.id}" == found.reasons[0].what


def test_a_release_that_is_not_there_is_refused_with_what_is() -> None:
    found = rollback.choose("rack1", host(), "fff", ALL)
    assert isinstance(found, Refusal)
    (reason,) = found.reasons
    assert (reason.code, reason.what) == ("no-such-release", "the host has no release fff")
    assert [line.split("  ")[0] for line in reason.evidence] == [NEW.id, ODD.id, OLD.id]
    assert reason.evidence[0].endswith("vLLM 0.32.0, tiny@d00000000000, 2023-11-14 22:14 UTC, passed, current")
    assert reason.evidence[2].endswith("passed, previous")


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"previous": None}, "no-previous"),
        ({"previous": Laid(number=9)}, "no-previous"),
        ({"previous": NEW}, "no-previous"),
        ({"previous": ODD}, "gpu-missing"),
        ({"nvml__state": "mismatch"}, "nvml-mismatch"),
    ],
)
def test_a_host_that_cannot_go_back_says_why(changes: dict[str, Any], code: str) -> None:
    assert refused(host(**changes)) == [code]


def test_a_host_without_releases_is_sent_to_the_deploy() -> None:
    assert refused(survey(*CARDS)) == ["not-deployed"]
    assert refused(survey(*CARDS), "abc") == ["not-deployed"]


def test_every_reason_is_said_at_once() -> None:
    broken = shelved(ODD, missing="its weights", verdict="failed")
    assert refused(host(broken, shelved(NEW), previous=ODD)) == ["release-incomplete", "release-failed", "gpu-missing"]


def test_a_release_that_failed_its_gate_is_tried_only_when_it_is_named() -> None:
    failed = host(shelved(OLD, verdict="failed"), shelved(NEW))
    assert refused(failed) == ["release-failed"]
    assert chosen(failed, OLD.id).id == OLD.id


def test_who_went_back_already_stays_so_that_a_rollback_can_be_run_again() -> None:
    back = shelved(OLD, back="rollback", run="r2")
    seen = host(back, shelved(NEW), current=OLD, previous=NEW)
    assert chosen(seen).id == OLD.id
    assert [each.code for each in rollback.warnings("rack1", seen, chosen(seen), ALL)] == ["back-already"]
    assert chosen(seen, NEW.id).id == NEW.id, "by its name it can still be had"
    assert chosen(host(back, shelved(NEW), current=OLD, previous=None)).id == OLD.id


def test_a_release_that_was_deployed_since_can_be_left_again() -> None:
    assert chosen(host(shelved(OLD, back="rollback"), shelved(NEW))).id == OLD.id


@pytest.mark.parametrize(
    ("now", "stays"),
    [
        ({"run": "r1", "engine_version": "0.40.0"}, True),
        ({"run": "r7", "engine_version": "0.31.0"}, True),
        ({"run": "", "engine_version": "0.32.0"}, False),
        ({"run": "r9", "engine_version": "0.30.0"}, False),
    ],
)
def test_a_host_that_the_deploy_did_not_come_to_serves_what_the_others_go_back_to(
    now: dict[str, Any], stays: bool
) -> None:
    left, to = (
        Shelved.model_validate(shelved(laid, run=run, engine_version=version))
        for laid, run, version in ((NEW, "r2", "0.32.0"), (OLD, "r1", "0.31.0"))
    )
    assert rollback.stays(Shelved.model_validate(shelved(ODD, **now)), [(left, to)], []) is stays
    assert not rollback.stays(Shelved.model_validate(shelved(ODD, **now)), [], [])


def test_of_two_settings_of_one_engine_only_the_run_tells_them_apart() -> None:
    left, to = (Shelved.model_validate(shelved(OLD, run=run)) for run in ("r2", "r1"))
    assert rollback.stays(to, [(left, to)], [])
    assert not rollback.stays(left, [(left, to)], [])


def test_a_release_without_a_verdict_is_no_reason_against_it() -> None:
    assert chosen(host(shelved(OLD, verdict=""), shelved(NEW))).id == OLD.id


@pytest.mark.parametrize(("loaded", "age"), [("590.44.01", "newer"), ("570.86.15", "older"), ("580.99.1", "older")])
def test_another_driver_is_a_warning_where_no_packages_are_kept(loaded: str, age: str) -> None:
    seen = host(driver__loaded=loaded, driver__library=loaded)
    (warning,) = rollback.warnings("rack1", seen, chosen(seen), ALL)
    assert f"driver {loaded} is {age} than {DRIVER}" in warning.what
    plan, _ = decided(seen)
    assert (plan.driver.version, plan.driver.packages) == (loaded, None)
    assert plan.warnings == (warning.what,)


def moved(*stored: str, loaded: str = "595.91.07", **more: Any) -> Survey:
    """Return a host whose driver was changed after its previous release, with stored sets of packages."""
    sets = {f"{version}-set": {"version": version, "packages": ["libcuda1"]} for version in stored}
    return host(driver__loaded=loaded, driver__library=loaded, driver_sets={"sets": sets}, **more)


def test_a_driver_goes_back_with_its_release_where_its_packages_are_stored() -> None:
    plan, _ = decided(moved(DRIVER, "595.91.07"))
    assert (plan.driver.version, plan.driver.stored, plan.warnings) == (DRIVER, True, ())
    assert plan.words[-1] == f"driver 595.91.07 → {DRIVER}, from the packages that are stored here; reload its modules"


def test_the_way_back_goes_forward_again_with_the_driver() -> None:
    seen = moved(DRIVER, "580.178.04", loaded="580.178.04")
    plan, _ = decided(seen)
    assert plan.driver.version == DRIVER
    newer = host(
        shelved(OLD, driver="595.91.07"), shelved(NEW), driver_sets=moved("595.91.07").driver_sets.model_dump()
    )
    assert decided(newer)[0].driver.version == "595.91.07"


def test_a_driver_whose_packages_are_not_stored_is_refused_with_the_way_out() -> None:
    found = rollback.choose("rack1", moved("595.91.07", "570.1.1"), "", ALL)
    assert isinstance(found, Refusal)
    (reason,) = found.reasons
    assert reason.code == "driver-not-stored"
    assert (
        reason.what
        == f"the release ran with driver {DRIVER}, and the host has the packages of 570.1.1, 595.91.07 alone"
    )
    assert "--data driver_manage=false" in reason.next_step


def test_a_driver_is_left_as_it_is_where_that_is_wished() -> None:
    plan, _ = decided(moved("595.91.07"), driver_manage=False)
    assert (plan.driver.version, plan.driver.managed, len(plan.warnings)) == ("595.91.07", False, 1)


def test_without_leave_to_reboot_no_driver_goes_back() -> None:
    wishes, _ = rollback.resolve({"driver_reboot_allowed": False}, (), "rack1")
    assert isinstance(rollback.choose("rack1", moved(DRIVER), "", wishes.settings), Shelved), "none is needed"
    found = rollback.choose("rack1", moved(DRIVER, ground__unloadable=False), "", wishes.settings)
    assert isinstance(found, Refusal)
    assert [reason.code for reason in found.reasons] == ["reboot-needed"]


def test_files_that_a_hand_changed_are_a_warning() -> None:
    seen = host(shelved(OLD, edited=["instances/tiny-0.env"]), shelved(NEW, edited=[]))
    assert [each.code for each in rollback.warnings("rack1", seen, chosen(seen), ALL)] == ["release-edited"]
    assert rollback.warnings("rack1", seen, chosen(seen, NEW.id), ALL) == ()


def test_the_plan_is_what_the_manifest_says_on_the_gpus_that_are_there() -> None:
    plan, wishes = decided(host(), NEW.id)
    (instance,) = plan.instances
    assert (instance.name, instance.port, instance.gpus, instance.max_model_len) == ("tiny-0", 8000, (1, 0), 256)
    assert plan.uuids(instance) == NEW.gpus
    assert (plan.venv, plan.model, plan.engine_version) == (NEW.venv_name, NEW.model_name, "0.32.0")
    assert plan.start_timeout_s == 700
    assert (wishes.settings.model_name, wishes.settings.engine_version) == ("tiny", "0.32.0")
    assert (wishes.settings.serve_host, wishes.weights.id, wishes.venv) == ("0.0.0.0", NEW.model_name, NEW.venv_name)


def test_the_words_say_from_what_to_what() -> None:
    first, *rest = decided(host())[0].words
    before, after = f"{NEW.id} (vLLM 0.32.0, {NEW.model_name})", f"{OLD.id} (vLLM 0.31.0, {OLD.model_name})"
    assert first == f"back from release {before} to release {after}"
    assert rest[-1] == f"driver {DRIVER} is left as it is"
    assert decided(host(), NEW.id)[0].words[0].startswith(f"release {NEW.id} is the current one already")
    assert decided(host(current=None), OLD.id)[0].words[0].startswith("back from no release to release")


def test_a_host_without_a_current_release_goes_back_when_one_is_named() -> None:
    assert chosen(host(current=None, previous=None), OLD.id).id == OLD.id


# --- what is read of the inventory --------------------------------------------------------------------------------


def test_nothing_of_the_model_and_its_files_is_read_or_required() -> None:
    data = {"model_path": "/nowhere", "engine_requirements": 5, "serve_api_key_from": "env:UNSET", "model_nmae": "x"}
    wishes, wished = rollback.resolve({**data, "drain_timeout_s": 7, "rollout_waves": [2]}, (), "rack1")
    assert (wishes.settings.drain_timeout_s, wishes.settings.rollout_waves, wished) == (7, (2,), "")
    assert wishes.api_key is None


def test_a_typo_in_what_is_read_is_refused() -> None:
    with pytest.raises(RackhandError) as raised:
        rollback.resolve({"rollout_max_otu": 1}, (), "rack1")
    assert "did you mean 'rollout_max_out'?" in raised.value.what


@pytest.mark.parametrize(
    ("typed", "data", "wished"),
    [
        (("--data", "release=012345678901"), {"release": 12345678901}, "012345678901"),
        (("--data", "release=12e4"), {"release": 120000.0}, "12e4"),
        (("--data=release=4f6b",), {"release": "4f6b"}, "4f6b"),
        ((), {"release": "4f6b"}, "4f6b"),
        ((), {}, ""),
    ],
)
def test_an_id_is_taken_as_it_was_typed(typed: Sequence[str], data: dict[str, Any], wished: str) -> None:
    assert rollback.resolve(data, typed, "rack1")[1] == wished


@pytest.mark.parametrize("wished", ["latest", "4F6B", "0" * 13, "a0/../b"])
def test_what_cannot_be_an_id_is_refused(wished: str) -> None:
    with pytest.raises(RackhandError) as raised:
        rollback.resolve({"release": wished}, (), "rack1")
    assert (raised.value.code, raised.value.where) == ("settings", "rack1")


def test_a_release_of_an_older_rackhand_can_be_gone_back_to() -> None:
    old = Laid(number=1, schema=1, gpus=(uuid(0),))
    record = json.loads(json.dumps(shelved(old)))
    plan, wishes = decided(host(record, shelved(NEW)))
    assert (plan.instances[0].max_model_len, plan.start_timeout_s) == (None, 900)
    assert wishes.settings.serve_host == "127.0.0.1"
    assert digest("a", 1) in plan.words[0]
