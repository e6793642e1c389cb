"""GPU sets are read as people type them; a name that could mean two different cards is asked back."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rackhand import catalog, gpu_sets
from rackhand.errors import RackhandError


def read(text: str) -> list[tuple[int, str]]:
    return [(count, row.name) for count, row in gpu_sets.parse(text)]


@pytest.mark.parametrize(
    ("text", "count", "name"),
    [
        ("2xH100-SXM-80GB", 2, "H100 SXM5 80GB"),
        ("1xH200-SXM-141GB", 1, "H200 SXM 141GB"),
        ("1xH200", 1, "H200 SXM 141GB"),
        ("8x H200", 8, "H200 SXM 141GB"),
        ("8 h200", 8, "H200 SXM 141GB"),
        ("H200-NVL", 1, "H200 NVL 141GB"),
        ("4xL4", 4, "L4"),
        ("L4:4", 4, "L4"),
        ("l4x4", 4, "L4"),
        ("L4 x 4", 4, "L4"),
        ("1xL4-24GB", 1, "L4"),
        ("1xRTX-4090", 1, "RTX 4090"),
        ("rtx4090", 1, "RTX 4090"),
        ("4090", 1, "RTX 4090"),
        ("NVIDIA GeForce RTX 4090", 1, "RTX 4090"),
        ("4090d", 1, "RTX 4090 D"),
        ("rtx 3090 ti", 1, "RTX 3090 Ti"),
        ("1xT4", 1, "T4"),
        ("Tesla T4", 1, "T4"),
        ("NVIDIA H100 80GB HBM3", 1, "H100 SXM5 80GB"),
        ("NVIDIA H200", 1, "H200 SXM 141GB"),
        ("8xB200", 8, "B200"),
        ("8×B200-192GB", 8, "B200"),  # noqa: RUF001 — the sign that people type
        ("B300", 1, "B300 SXM6"),
        ("1xA100-SXM-80GB", 1, "A100 SXM4 80GB"),
        ("a100-sxm4-80gb", 1, "A100 SXM4 80GB"),
        ("a100-80gb", 1, "A100 SXM4 80GB"),
        ("A100 80 GB", 1, "A100 SXM4 80GB"),
        ("a100-80g:8", 8, "A100 SXM4 80GB"),
        ("1xA100-PCIe-40GB", 1, "A100 PCIe 40GB"),
        ("A100 80GB PCIe", 1, "A100 PCIe 80GB"),
        ("H100", 1, "H100 SXM5 80GB"),
        ("H100-SXM5", 1, "H100 SXM5 80GB"),
        ("H100 PCIe", 1, "H100 PCIe 80GB"),
        ("H100-NVL", 1, "H100 NVL 94GB"),
        ("H20", 1, "H20 96GB"),
        ("H20-3e", 1, "H20-3e 141GB"),
        ("GH200", 1, "GH200"),
        ("GH200-144GB", 1, "GH200 144GB"),
        ("A6000", 1, "RTX A6000"),
        ("RTX 6000 Ada", 1, "RTX 6000 Ada"),
        ("RTX PRO 6000", 1, "RTX PRO 6000 Blackwell Workstation"),
        ("RTX PRO 6000 Server", 1, "RTX PRO 6000 Blackwell Server"),
        ("L40", 1, "L40"),
        ("l40s", 1, "L40S"),
        ("A16", 1, "A16"),
    ],
)
def test_a_name_as_people_type_it_finds_its_card(text: str, count: int, name: str) -> None:
    assert read(text) == [(count, name)]


@pytest.mark.parametrize("text", ["2xA100-80GB+2xL4", "2xA100-80GB + 2xL4", "2xA100-80GB, 2xL4"])
def test_several_kinds_keep_the_order_typed(text: str) -> None:
    assert read(text) == [(2, "A100 SXM4 80GB"), (2, "L4")]


@pytest.mark.parametrize(
    ("text", "candidates"),
    [
        ("A100", ["A100-SXM4-40GB", "A100-SXM4-80GB", "A100-PCIe-40GB", "A100-PCIe-80GB"]),
        ("8xV100", ["V100-SXM2-16GB", "V100-SXM2-32GB"]),
        ("RTX 6000", ["Quadro-RTX-6000/8000", "RTX-6000-Ada", "RTX-PRO-6000-Blackwell-Server"]),
    ],
)
def test_a_name_of_different_cards_is_asked_back_with_all_of_them(text: str, candidates: list[str]) -> None:
    with pytest.raises(RackhandError, match="several cards") as error:
        gpu_sets.parse(text)
    assert error.value.code == "unknown-gpu"
    assert all(candidate in error.value.next_step for candidate in candidates)


@pytest.mark.parametrize(("text", "near"), [("H1000", "H100-SXM5-80GB"), ("rtx4900", "RTX-4090"), ("2xL40X", "L40S")])
def test_an_unknown_name_is_answered_with_the_nearest(text: str, near: str) -> None:
    with pytest.raises(RackhandError, match="no card is called") as error:
        gpu_sets.parse(text, "gpus")
    assert (error.value.code, error.value.where) == ("unknown-gpu", "gpus")
    assert near in error.value.next_step


@pytest.mark.parametrize("text", ["", "2x", "+", "L4++L4", "rtx", "80GB", "MI300X", "L4-48GB"])
def test_what_names_no_card_is_refused(text: str) -> None:
    with pytest.raises(RackhandError) as error:
        gpu_sets.parse(text)
    assert error.value.code == "unknown-gpu"


@pytest.mark.parametrize("text", ["0xL4", "65xL4", "99999999999999999999xL4"])
def test_a_count_that_no_host_has_is_refused(text: str) -> None:
    with pytest.raises(RackhandError, match="1 to 64"):
        gpu_sets.parse(text)


@pytest.mark.parametrize("row", catalog.gpu_book().cards, ids=lambda row: row.name)
def test_every_card_answers_to_its_own_name(row: catalog.CardRow) -> None:
    if " or " in row.name:
        return
    assert gpu_sets.find(row.name).name == row.name


@given(st.text(alphabet="0123456789abhlrtxsmpcignv×x*:+- ", max_size=24) | st.text(max_size=24))  # noqa: RUF001
def test_any_text_is_read_or_refused(text: str) -> None:
    with suppress(RackhandError):
        assert all(1 <= count <= 64 for count, _ in gpu_sets.parse(text))
