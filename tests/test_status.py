"""Everything that is not as it was deployed is one line with its next step; what is well says nothing."""

from typing import Any

import pytest

from rackhand.errors import RackhandError
from rackhand.status.hosts import judge
from rackhand.status.instances import RECENT_S, State, span
from rackhand.status.seen import parse
from tests.driver_states import servers
from tests.shelves import digest
from tests.standings import DIED, NOW, RELEASE, answer, down, gpu, instance, router, seen, standing, unit
from tests.surveys import uuid

OTHER = digest("c", 9)


def codes(changes: dict[str, Any]) -> list[str]:
    return [drift.code for drift in standing(changes=changes).drifts]


def notes(changes: dict[str, Any], **wished: Any) -> list[str]:
    return [note.code for note in standing(changes=changes, **wished).notes]


def test_a_host_that_is_well_says_nothing() -> None:
    found = standing(engine_version="0.32.0", model_name="tiny")
    assert (found.status, found.drifts, found.notes) == ("good", (), ())
    assert [(each.state, each.gate) for each in found.instances] == [(State.SERVING, "passed")]


@pytest.mark.parametrize(
    ("changes", "code", "said"),
    [
        ({"release.edited": ["instances/tiny-0.env"]}, "release-edited", "instances/tiny-0.env"),
        ({"units": ["vllm@.service"]}, "unit-edited", "vllm@.service"),
        ({"release.missing": "its weights"}, "release-incomplete", "its weights"),
        ({"driver.library": "590.1"}, "driver-mismatch", "library 590.1"),
        ({"driver.loaded": "590.1", "driver.library": "590.1"}, "driver-changed", "driver 590.1 is loaded"),
        ({"packages.held": []}, "package-unheld", "libcuda1"),
        ({"nvml.gpus": []}, "gpu-missing", "1 of 1 GPUs gone"),
        ({"nvml.gpus": [{**gpu(0), "lost": True}], "nvml.state": "lost"}, "nvml-lost", "NVML does not work: lost"),
        ({"instances.0.unit.enabled": False}, "not-enabled", "at boot"),
        ({"instances.0.unit.running_config": OTHER}, "restart-owed", OTHER),
        ({"instances.0.owed": True}, "restart-owed", "changed by hand"),
        ({"instances.0.foreign": ["/etc/x.conf"]}, "unit-overridden", "/etc/x.conf"),
        ({"instances.0.stale": True}, "unit-stale", "has not read"),
        ({"instances.0.unit.restarts": 2, "instances.0.up_s": 60}, "engine-restarted", "2 times, 1 min ago"),
    ],
)
def test_a_drift_of_a_host_that_serves_is_named(changes: dict[str, Any], code: str, said: str) -> None:
    found = standing(changes=changes)
    assert found.status == "drift"
    first = next(drift for drift in found.drifts if drift.code == code)
    assert said in first.what
    assert first.where.startswith("rack1")
    assert first.next_step


@pytest.mark.parametrize(
    ("changes", "state", "code"),
    [
        ({"instances": [down()]}, State.DOWN, "engine-died"),
        ({"instances": [instance(unit=unit(sub="auto-restart", active="activating"))]}, State.DOWN, "engine-died"),
        ({"instances.0.healthy": False, "instances.0.up_s": 5_000}, State.DOWN, "engine-died"),
        ({"instances.0.healthy": False, "instances.0.up_s": 40}, State.STARTING, "engine-starting"),
        ({"instances.0.state": "drain"}, State.DRAINED, "left-drained"),
        ({"instances.0.gate.failure": "gate-tokens", "instances.0.gate.what": "4"}, State.FAILING, "gate-tokens"),
        ({"instances": [instance(unit=unit(active="inactive", pid=0), healthy=False)]}, State.DOWN, "not-running"),
    ],
)
def test_an_instance_that_does_not_serve_is_named(changes: dict[str, Any], state: State, code: str) -> None:
    found = standing(changes=changes)
    assert (found.status, found.instances[0].state) == ("not serving", state)
    assert code in codes(changes)


def test_the_cause_that_a_journal_names_takes_the_place_of_the_symptom() -> None:
    line = "(EngineCore pid=9) ERROR 11-24 10:00:00 [core.py:1] ValueError: No available memory for the cache blocks."
    (found,) = standing(changes={"instances": [{**down(), "journal": [line]}]}).drifts
    assert found.code == "no-cache-memory"
    assert "its unit is failed (signal 9)" in found.what


def test_a_dead_engine_quotes_its_last_line() -> None:
    (found,) = standing(changes={"instances": [down()]}).drifts
    assert found.evidence[-1] == DIED[-1]


def test_an_engine_that_was_restarted_long_ago_is_a_note() -> None:
    changes = {"instances.0.unit.restarts": 1, "instances.0.up_s": RECENT_S + 1}
    assert standing(changes=changes).status == "good"
    assert notes(changes) == ["engine-restarted"]


def test_an_instance_that_the_release_lacks_is_stray_only_while_it_runs_or_would() -> None:
    stray = instance("old-0", gate=None)
    assert codes({"instances": [instance(), stray]}) == ["stray-instance"]
    gone = instance("old-0", unit=unit("old-0", active="inactive", enabled=False), gate=None)
    assert codes({"instances": [instance(), gone]}) == []


def test_unprobed_instances_are_up_and_not_said_to_serve() -> None:
    found = standing(changes={"instances.0.gate": None})
    assert (found.status, found.instances[0].state, found.instances[0].gate) == ("good", State.UP, "not asked")


def test_packages_that_somebody_else_manages_need_no_hold() -> None:
    assert codes({"packages.held": [], "packages.pinned": False}) == []


def test_gpus_are_counted_by_slice_and_not_at_all_where_nvml_is_silent() -> None:
    whole = {**gpu(0), "uuid": "GPU-x", "slices": [{"uuid": uuid(0), "profile": "3g", "memory_mib": 1, "free_mib": 1}]}
    assert codes({"nvml.gpus": [whole]}) == []
    assert codes({"nvml.gpus": [], "nvml.state": "mismatch"}) == ["nvml-mismatch"]


def test_a_host_without_a_release_is_empty() -> None:
    found = standing(changes={"release": None, "instances": []}, engine_version="0.33.0")
    assert (found.status, [drift.code for drift in found.drifts], found.notes) == ("empty", ["not-deployed"], ())


def test_a_router_needs_no_release_and_a_running_haproxy() -> None:
    assert (router().status, router().drifts) == ("good", ())
    for haproxy, status, code in (
        ({"active": "failed"}, "not serving", "router-down"),
        ({"enabled": False}, "drift", "router-down"),
        ({"active": ""}, "empty", "not-deployed"),
    ):
        found = router(**haproxy)
        assert (found.status, [drift.code for drift in found.drifts]) == (status, [code])


def test_what_was_placed_by_an_older_rackhand_is_not_called_edited() -> None:
    assert codes({"release.edited": None}) == []


ORDER = {
    "run": "r1",
    "kind": "switch",
    "purpose": "deploy",
    "to": digest("a", 2),
    "created": NOW - 90,
    "phase": "drain",
    "alive": True,
}
LEASE = {"owner": "ann", "run": "r1", "purpose": "deploy", "since": NOW - 100, "expires": NOW + 200}


def test_a_run_at_work_is_a_note_and_its_drain_no_drift() -> None:
    found = standing(changes={"order": ORDER, "lease": LEASE, "instances.0.state": "drain"})
    assert (found.status, found.drifts) == ("not serving", ())
    assert [note.code for note in found.notes] == ["order-open", "leased"]
    assert "for 2 min, phase drain" in found.notes[0].what
    assert "ann holds the host since" in found.notes[1].what


def test_an_order_that_nobody_is_at_is_a_drift() -> None:
    found = standing(changes={"order": {**ORDER, "alive": False}})
    assert (found.status, [drift.code for drift in found.drifts]) == ("drift", ["order-stuck"])


def test_the_lease_of_a_run_that_died_is_a_note() -> None:
    assert notes({"lease": {**LEASE, "expires": NOW - 1}}) == ["lease-expired"]


@pytest.mark.parametrize(
    ("reboot", "said"),
    [
        ({"required": True, "packages": ["linux-base"]}, "the distribution asks for it (linux-base)"),
        ({"required": False, "kernel": "6.1.0-31-amd64", "module": True}, "kernel 6.1.0-31-amd64 is installed"),
        ({"required": False, "kernel": "6.1.0-31-amd64", "module": False}, "without a module of the driver yet"),
    ],
)
def test_a_reboot_that_is_due_is_a_note(reboot: dict[str, Any], said: str) -> None:
    (note,) = standing(changes={"reboot": reboot}).notes
    assert (note.code, said in note.what) == ("reboot-pending", True)


DKMS = "dkms autoinstall -k 6.1.0-31-amd64"
READY_BUILT = [*servers("ubuntu-24.04", "580.126.20")]


@pytest.mark.parametrize(
    ("distribution", "installed", "headers", "cure"),
    [
        ("debian", ["libcuda1"], True, DKMS),
        ("debian", ["libcuda1"], False, f"apt-get install linux-headers-6.1.0-31-amd64 && {DKMS}"),
        ("rocky", ["libnvidia-ml"], False, f"dnf install kernel-devel-6.1.0-31-amd64 && {DKMS}"),
        ("ubuntu", READY_BUILT, False, "apt-get install linux-modules-nvidia-580-server-open-6.1.0-31-amd64"),
    ],
)
def test_a_next_kernel_without_a_module_is_told_with_the_command_that_brings_it(
    distribution: str, installed: list[str], headers: bool, cure: str
) -> None:
    reboot = {"required": True, "kernel": "6.1.0-31-amd64", "module": False, "headers": headers}
    packages = {"packages.installed": dict.fromkeys(installed, "1"), "host.distribution": distribution}
    (note,) = standing(changes={"reboot": reboot, "packages.pinned": False, **packages}).notes
    assert note.next_step == f"before the host reboots: {cure}"


def test_a_host_without_a_driver_needs_no_module_in_its_next_kernel() -> None:
    reboot = {"required": False, "kernel": "6.1.0-31-amd64", "module": False}
    front = {"haproxy": {"active": "active", "enabled": True}, "release": None, "instances": []}
    changes = {"reboot": reboot, "driver.loaded": None, "packages.installed": {}, **front}
    (note,) = judge("front1", seen(changes), {}, router=True).notes
    assert (note.next_step, "module" in note.what) == ("reboot in a maintenance window", False)


def test_how_the_last_order_ended_is_told_until_one_goes_well() -> None:
    last = {
        "run": "r1",
        "verdict": "restored",
        "code": "gate-tokens",
        "what": "4 of 5",
        "to": digest("a", 2),
        "at": NOW,
    }
    (note,) = standing(changes={"last": last}).notes
    assert note.what.endswith(f"UTC to {digest('a', 2)}) ended restored: 4 of 5 [gate-tokens]")
    assert notes({"last": {**last, "verdict": "accepted"}}) == []
    driver = {"left": "595.91.07", "to": "580.126.20", "restored": True, "why": ""}
    (note,) = standing(changes={"last": {**last, "driver": driver}}).notes
    assert note.what.endswith("; driver rolled back 595.91.07 → 580.126.20")
    assert notes({"last": last, "order": ORDER}) == ["order-open"]


def test_a_wish_that_plainly_differs_is_a_note() -> None:
    (note,) = standing(engine_version="0.33.0", model_name="tiny").notes
    assert (note.code, note.what) == ("not-as-wished", "the inventory wishes vLLM 0.33.0 instead of 0.32.0")
    assert standing().notes == ()


def test_an_answer_that_makes_no_sense_is_said_to_be_one() -> None:
    with pytest.raises(RackhandError) as raised:
        parse(answer({"instances.0.healthy": []}), "rack1")
    assert raised.value.code == "facts"
    assert seen().release is not None
    assert RELEASE.id == seen().release.id  # type: ignore[union-attr]


def test_spans_are_told_in_their_largest_unit() -> None:
    assert [span(seconds) for seconds in (-1, 40, 90, 7_200, 200_000)] == ["0 s", "40 s", "2 min", "2 h", "2 d"]
