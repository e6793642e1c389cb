"""What a host says is believed only when it makes sense, and never changed afterwards."""

from typing import Any

import pytest
from pydantic import ValidationError

from rackhand import seen
from rackhand.errors import RackhandError
from rackhand.survey import Listener, parse
from tests.surveys import address, answer, bare, survey, uuid


def test_a_full_answer_is_understood() -> None:
    found = parse(answer(("h100", "h100")), "gpu-1")
    assert found.host.distribution == "debian"
    assert [gpu.uuid for gpu in found.nvml.gpus] == [uuid(0), uuid(1)]
    assert found.driver.ready
    assert found.apt_lock is None


def test_fields_of_a_newer_script_are_ignored() -> None:
    assert parse({**answer(), "weather": "fine"}, "gpu-1").host.systemd


@pytest.mark.parametrize(
    ("path", "value"),
    [("host.systemd", "perhaps"), ("resources.disk_free_mib", None), ("nvml", {}), ("pci", "none"), ("state", [])],
)
def test_nonsense_is_refused_with_the_place_of_it(path: str, value: Any) -> None:
    with pytest.raises(RackhandError) as caught:
        parse(answer(("h100",), {path: value}), "gpu-1")
    assert (caught.value.code, caught.value.where) == ("facts", "gpu-1")
    assert path.split(".")[0] in caught.value.what


@pytest.mark.parametrize("nothing", [None, "", [], 7, {"host": None}])
def test_an_answer_that_is_no_survey_is_refused(nothing: Any) -> None:
    with pytest.raises(RackhandError) as caught:
        parse(nothing, "gpu-1")
    assert caught.value.code == "facts"


def test_facts_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        survey("h100").host.systemd = False


@pytest.mark.parametrize(
    ("loaded", "library", "ready"),
    [("580.1", "580.1", True), ("580.1", "570.1", False), (None, "580.1", False), ("580.1", None, False)],
)
def test_a_driver_is_ready_when_the_module_is_the_librarys(loaded: str, library: str, ready: bool) -> None:
    assert survey("h100", driver__loaded=loaded, driver__library=library).driver.ready is ready


def test_no_driver_at_all_is_not_ready() -> None:
    assert not bare("h100").driver.ready


@pytest.mark.parametrize(
    ("pid", "command", "unit", "said"),
    [
        (7, "nginx", "nginx.service", "nginx (pid 7, nginx.service)"),
        (7, "nginx", "", "nginx (pid 7)"),
        (0, "", "", "an unknown process (pid 0)"),
    ],
)
def test_a_listener_is_named_in_words(pid: int, command: str, unit: str, said: str) -> None:
    assert str(Listener(port=80, pid=pid, command=command, unit=unit)) == said


def test_gpus_come_in_order_of_their_address_however_they_were_listed() -> None:
    facts = answer(("h100", "l4", "h100"))
    facts["pci"].reverse()
    facts["nvml"]["gpus"].reverse()
    found = seen.gpus(parse(facts, "gpu-1"))
    assert [gpu.address for gpu in found] == [address(0), address(1), address(2)]
    assert [gpu.uuid for gpu in found] == [uuid(0), uuid(1), uuid(2)]
    assert found == seen.gpus(survey("h100", "l4", "h100"))


def test_links_nodes_and_slices_are_read_as_nvml_and_the_bus_tell_them() -> None:
    facts = answer(("h100", "h100"))
    facts["nodes"] = [{"node": node, "cpus": cpus, "memory_mib": 1} for node, cpus in ((0, "0-31"), (1, "32-63"))]
    facts["pci"][1]["numa_node"] = 1
    facts["nvml"]["gpus"][0] |= {"nvlinks": 12, "peers": [address(1)]}
    piece = {"uuid": "MIG-1", "profile": "3g.40gb", "memory_mib": 40_000, "free_mib": 39_000}
    facts["nvml"]["gpus"][1] |= {"mig": True, "slices": [piece, {**piece, "uuid": "MIG-2"}], "peers": ["0000:05:00.0"]}
    whole, *slices = seen.gpus(parse(facts, "gpu-1"))
    assert (whole.peers, whole.switched, whole.numa_node, whole.cpus) == ((address(1),), False, 0, "0-31")
    assert [(each.uuid, each.profile, each.memory_mib, each.mig) for each in slices] == [
        ("MIG-1", "3g.40gb", 40_000, True),
        ("MIG-2", "3g.40gb", 40_000, True),
    ]
    assert {(each.address, each.card, each.cpus, each.switched) for each in slices} == {
        (address(1), whole.card, "32-63", True)
    }


def test_before_the_driver_links_are_not_known_and_switches_are_seen_on_the_bus() -> None:
    facts = bare("h100", "h100")
    assert [(each.peers, each.switched, each.cpus) for each in seen.gpus(facts)] == [(None, False, "")] * 2
    switch = facts.pci[0].model_copy(update={"address": "0000:05:00.0", "device": "0x22a3", "device_class": "0x068000"})
    assert all(each.switched for each in seen.gpus(facts.model_copy(update={"pci": (*facts.pci, switch)})))


@pytest.mark.parametrize(
    ("free_mib", "processes", "expected"),
    [
        (81_000, [], None),
        (10_000, [{"pid": 1, "mib": 71_009, "unit": "vllm@llama-0.service"}], None),
        (10_000, [{"pid": 1, "mib": 70_000, "unit": "jupyter.service"}], 10_000),
        (
            10_000,
            [{"pid": 1, "mib": 40_000, "unit": "vllm@llama-0.service"}, {"pid": 2, "mib": 31_009, "unit": ""}],
            50_000,
        ),
        (10_000, [{"pid": 1, "mib": None, "unit": "vllm@llama-0.service"}], None),
        (10_000, None, None),
    ],
    ids=["idle", "ours alone", "somebody else", "both", "ours without a number", "not told"],
)
def test_memory_that_others_hold_is_told_apart_from_ours(
    free_mib: int, processes: list[dict[str, Any]] | None, expected: int | None
) -> None:
    facts = answer()
    facts["nvml"]["gpus"][0] |= {"memory_mib": 81_559, "reserved_mib": 550, "free_mib": free_mib}
    facts["nvml"]["gpus"][0]["processes"] = processes
    (found,) = seen.gpus(parse(facts, "gpu-1"))
    assert found.free_mib == expected


def test_a_lost_gpu_keeps_its_place_on_the_bus_and_has_no_uuid() -> None:
    found = seen.gpus(survey("h100", "h100", nvml__gpus__1={"index": 1, "lost": True}))
    assert [gpu.uuid for gpu in found] == [uuid(0), ""]


def test_cards_are_counted_in_words_and_only_switches_make_a_fabric() -> None:
    assert seen.cards(seen.gpus(survey("h100", "h100"))) == "2\N{MULTIPLICATION SIGN} H100 SXM5 80GB"
    assert not seen.has_fabric(survey("h100", "h100"))
    switch = {**answer()["pci"][0], "address": "0000:05:00.0", "device": "0x22a3", "device_class": "0x068000"}
    assert seen.has_fabric(parse(answer(("h100",), {"pci": [switch]}), "gpu-1"))
