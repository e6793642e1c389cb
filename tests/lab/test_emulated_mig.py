"""What is wished of a card's slices becomes so through NVML, on emulated cards: at once, or at the next boot."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rackhand.lab import personality
from rackhand.lab.personality import Ailments
from tests.lab.test_emulated_nvml import Host, host

THREE = ["3g.71gb", "2g.35gb", "1g.18gb"]


def cut(machine: Host, profiles: Sequence[str]) -> Any:
    return machine.set({machine.probe()[0]["address"]: {"mig": list(profiles)}})


def profiles(machine: Host) -> list[str]:
    return [each["profile"] for each in machine.probe()[0]["slices"]]


def boot(machine: Host) -> None:
    """Forget what a boot forgets, and take over what a card keeps."""
    kept = machine.root / "inforom.conf"
    text = kept.read_text().replace("_pending ", " ") if kept.exists() else ""
    (machine.root / "set.conf").write_text(text)


def test_a_whole_card_tells_what_it_can_be_cut_into(tmp_path: Path) -> None:
    (card,) = host(tmp_path, "1xH200").probe()
    assert (card["mig"], card["mig_pending"], card["slices"]) == (False, False, [])
    assert card["mig_profiles"][2] == {"name": "3g.71gb", "slices": 3, "most": 2, "memory_mib": 71_424}
    assert len(card["mig_profiles"]) == 7
    (card,) = host(tmp_path, "1xL4").probe()
    assert (card["mig"], card["mig_profiles"]) == (None, [])


def test_a_card_is_cut_the_large_slices_first_whatever_their_order(tmp_path: Path) -> None:
    machine = host(tmp_path, "1xH200")
    assert cut(machine, ["1g.18gb", "2g.35gb", "3g.71gb"]) == []
    (card,) = machine.probe()
    assert [(each["profile"], each["memory_mib"]) for each in card["slices"]] == [
        ("3g.71gb", 71_424),
        ("2g.35gb", 33_280),
        ("1g.18gb", 16_384),
    ]
    assert len({each["uuid"] for each in card["slices"]}) == 3


def test_doing_it_again_leaves_slices_as_they_are(tmp_path: Path) -> None:
    machine = host(tmp_path, "1xH200")
    cut(machine, THREE)
    before = (machine.root / "set.conf").stat().st_mtime_ns
    assert cut(machine, THREE[::-1]) == []
    assert (machine.root / "set.conf").stat().st_mtime_ns == before


def test_other_slices_replace_those_that_are_there(tmp_path: Path) -> None:
    machine = host(tmp_path, "1xH200-mig")
    assert cut(machine, ["7g.141gb"]) == []
    assert profiles(machine) == ["7g.141gb"]


def test_mig_goes_off_with_its_slices(tmp_path: Path) -> None:
    machine = host(tmp_path, "1xH200-mig")
    assert cut(machine, []) == []
    (card,) = machine.probe()
    assert (card["mig"], card["mig_pending"], card["slices"]) == (False, False, [])


def test_what_does_not_fit_is_told_by_its_card(tmp_path: Path) -> None:
    (line,) = cut(host(tmp_path, "1xH200"), ["3g.71gb", "3g.71gb", "1g.18gb"])
    assert ": mig ['3g.71gb', '3g.71gb', '1g.18gb']: " in line
    assert line.endswith("Insufficient Resources")


def test_hopper_forgets_its_slices_at_a_boot_and_gets_them_again(tmp_path: Path) -> None:
    machine = host(tmp_path, "1xH200")
    cut(machine, THREE)
    boot(machine)
    assert machine.probe()[0]["mig"] is False
    assert cut(machine, THREE) == []
    assert profiles(machine) == THREE


def test_ampere_that_cannot_be_reset_waits_for_a_boot_and_is_cut_then(tmp_path: Path) -> None:
    virtual = personality.load("4xA100-nvlink-pairs").with_gpu(0, ails=Ailments(no_reset=True))
    machine, wish = Host(tmp_path, virtual), ["3g.40gb", "3g.40gb"]
    assert cut(machine, wish) == []
    card = machine.probe()[0]
    assert (card["mig"], card["mig_pending"], card["slices"]) == (False, True, [])
    boot(machine)
    assert machine.probe()[0]["mig"] is True
    assert cut(machine, wish) == []
    assert profiles(machine) == wish
