"""What is close to what: NVLink islands, NUMA nodes, and sets of GPUs that cross neither without need."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from rackhand.layout.topology import Gpus, Link, islands, nodes, slots
from rackhand.plan import PlannedGpu
from tests.gpu_hosts import gpu, pairs, single, slices, switched, two_nodes
from tests.surveys import address


def names(groups: Sequence[Gpus], listed: Sequence[PlannedGpu]) -> list[list[int]]:
    """Return groups of GPUs by their number in the list."""
    return [[listed.index(each) for each in group] for group in groups]


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        (single("L4"), [[0]]),
        (single("RTX 4090", "RTX 4090"), [[0], [1]]),
        (pairs(), [[0, 1], [2, 3]]),
        (switched(), [[0, 1, 2, 3, 4, 5, 6, 7]]),
        (slices("3g.71gb", "2g.35gb"), [[0], [1]]),
    ],
    ids=["one", "two cards", "bridged pairs", "switches", "slices"],
)
def test_islands_are_what_nvlink_joins(host: list[PlannedGpu], expected: list[list[int]]) -> None:
    assert names(islands(host), host) == expected


def test_a_chain_of_links_is_one_island() -> None:
    chain = [gpu(0, "A100 80GB", peers=(address(1),)), gpu(1, "A100 80GB", peers=(address(2),)), gpu(2, "A100 80GB")]
    assert names(islands(chain), chain) == [[0, 1, 2]]


def test_a_link_that_only_one_side_reports_joins_both() -> None:
    host = [gpu(0, "A100 80GB", peers=None), gpu(1, "A100 80GB", peers=(address(0),))]
    assert names(islands(host), host) == [[0, 1]]


def test_slices_of_a_switched_card_are_not_joined() -> None:
    host = [replace(each, switched=True) for each in slices("3g.71gb", "3g.71gb")]
    assert names(islands(host), host) == [[0], [1]]


def test_nodes_are_those_of_the_bus_with_linked_cards_side_by_side() -> None:
    host = [gpu(slot, "A100 80GB", peers=(address(slot ^ 2),)) for slot in range(4)]
    assert names(nodes(host), host) == [[0, 2, 1, 3]]
    assert names(nodes(two_nodes("L4", 5)), two_nodes("L4", 5)) == [[0, 1, 2], [3, 4]]


def test_a_host_that_names_no_nodes_has_one() -> None:
    host = [gpu(slot, "L4", node=-1) for slot in range(3)]
    assert names(nodes(host), host) == [[0, 1, 2]]


@pytest.mark.parametrize(
    ("tensor", "pipeline", "link", "expected"),
    [
        (2, 1, Link.NODE, [[0, 1], [3, 4]]),
        (2, 1, Link.HOST, [[0, 1], [2, 5], [3, 4]]),
        (1, 2, Link.NONE, [[0, 1], [3, 4], [2, 5]]),
        (2, 2, Link.NODE, [[0, 1, 3, 4]]),
        (3, 2, Link.NODE, [[0, 1, 2, 3, 4, 5]]),
        (2, 1, Link.NVLINK, []),
    ],
)
def test_sets_cross_nodes_only_after_every_node_is_used_up(
    tensor: int, pipeline: int, link: Link, expected: list[list[int]]
) -> None:
    host = two_nodes("L40S", 6)
    assert names(slots(host, tensor, pipeline, link), host) == expected


def test_an_island_over_two_nodes_is_cut_along_them() -> None:
    host = [replace(each, switched=True, numa_node=int(slot > 2)) for slot, each in enumerate(single(*["L40S"] * 6))]
    assert names(slots(host, 2, 1, Link.NVLINK), host) == [[0, 1], [2, 5], [3, 4]]
    host = switched()
    assert names(slots(host, 4, 1, Link.NVLINK), host) == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_the_ranks_of_a_pipeline_stage_stand_side_by_side() -> None:
    host = [replace(each, peers=(address(slot ^ 2),)) for slot, each in enumerate(single(*["A100 80GB"] * 4))]
    assert names(slots(host, 2, 2, Link.NVLINK), host) == [[0, 2, 1, 3]]
