"""Every combination of what decides about a driver gives a plan that holds together, or exactly the known refusals."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from rackhand import checks
from rackhand.catalog import Origin
from rackhand.driver.origin import origins
from rackhand.driver.verdict import verdict
from rackhand.plan import DriverPlan
from rackhand.seen import gpus
from rackhand.survey import Survey
from tests.driver_hosts import SYSTEMS, host, kernel, ready_built
from tests.driver_states import states
from tests.surveys import wishes

CARDS: dict[str, dict[str, Any]] = {
    "P100": {"cards": ("p100",)},
    "L4 and T4": {"cards": ("l4", "t4")},
    "8x H100": {"cards": ("h100",) * 8, "switched": True},
    "8x B300": {"cards": ("b300",) * 8},
    "4x GB200": {"cards": ("gb200",) * 4},
    "newer than all": {"cards": ("future",)},
    "P100 beside T4": {"cards": ("p100", "t4")},
}
LEAST = {"8x B300": 580, "4x GB200": 570, "newer than all": 620}
FABRIC = {
    "8x H100": {"nvidia-fabricmanager", "libnvidia-nscq"},
    "8x B300": {"nvidia-fabricmanager", "libnvidia-nscq", "libnvsdm"},
    "4x GB200": {"nvidia-imex"},
}
BESIDE = {"8x B300": {"nvlsm", "infiniband-diags"}}
UNKNOWN_KEY = ("almalinux-10.1", "nvidia")
OF_RPM = {"dkms", "python3-dnf-plugin-versionlock"}
ALL = ("580", "590", "595", "610", "615", "620")
OFFERED = {
    ("debian-12", "nvidia"): ("570", "575", *ALL),
    ("debian-12-cloud", "nvidia"): ("570", "575", *ALL),
    ("debian-13", "nvidia"): ALL[2:],
    ("ubuntu-22.04", "nvidia"): ALL,
    ("ubuntu-24.04", "nvidia"): ALL,
    ("ubuntu-26.04", "nvidia"): ALL[2:],
    ("rhel-9.6", "nvidia"): ALL,
    ("almalinux-10.1", "nvidia"): ALL,
    **{(f"ubuntu-{release}", "distribution"): ("580", "595") for release in ("22.04", "24.04", "26.04")},
}
SOURCES = ("nvidia", "distribution")
BRANCHES = (None, "535", "570", "575", *ALL, "999")
RUNS, COMES = "6.1.0-40-amd64", "6.1.0-41-amd64"
NONE_OFFERED: dict[str, Any] = {"headers_offered": [], "modules_offered": []}
OF_OTHERS: dict[str, Any] = {"headers_offered": [], "modules_offered": ready_built("amd64")}
TWO = [kernel(RUNS, next=False, headers=True), kernel(COMES, "amd64", running=False)]
FULL_BOOT = [
    {"path": path, "device": number, "free_mib": 9_000 * (path != "/boot")}
    for number, path in enumerate(("/", "/boot", "/usr", "/var"))
]
AGAINST = {"file": "/etc/apt/preferences.d/own", "packages": "*", "pin": "origin nvidia.com", "priority": -1}
# What is odd about a host, and what it is refused for under each of SOURCES when its driver has to change.
GROUNDS: dict[str, tuple[dict[str, Any], str, str]] = {
    "as it came": ({}, "", ""),
    "no package lists yet": ({"listed": False, **NONE_OFFERED}, "", ""),
    "a full /boot": ({"places": FULL_BOOT}, "driver-space", "driver-space"),
    "a next kernel without either": ({"kernels": TWO, **OF_OTHERS}, "kernel-headers", "kernel-module"),
    "a kernel of one's own": (
        {"kernels": [kernel("7.1.0-own", package=False, image=True)], **NONE_OFFERED},
        "kernel-headers",
        "kernel-flavour",
    ),
    "Secure Boot, no key": ({"host__secure_boot": True, "key_enrolled": False}, "secure-boot", ""),
    "Secure Boot, our key": ({"host__secure_boot": True, "key_enrolled": True}, "", ""),
    "a pin against it": ({"preferences": [AGAINST]}, "driver-pinned", "driver-pinned"),
    "nouveau": ({"driver__nouveau": True}, "", ""),
    "a .run installation": ({"driver__runfile": True}, "", ""),
    "another processor": ({"host__architecture": "riscv64"}, "", ""),
}
STATES = tuple(states("debian-12"))
OF_THE_HOST = {"gpu-too-old", "driver-too-old", "driver-branch", "runfile-driver", "nouveau"}
PROPRIETARY = re.compile(r"nvidia-(dkms|driver|kernel-source)-\d{3}$|nvidia-kernel-dkms$|kmod-nvidia-latest-dkms$")


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One combination, by the names of its parts."""

    system: str
    cards: str
    source: str
    branch: str | None
    state: str = "nothing"
    ground: str = "as it came"

    def survey(self) -> Survey:
        here = states(self.system)[self.state]
        return host(self.system, **{**CARDS[self.cards], **here, **GROUNDS[self.ground][0]})


def judged(cell: Cell) -> tuple[DriverPlan | None, set[str]]:
    """Return what becomes of a host as preflight judges it: the plan, and the codes of what speaks against it."""
    named = {"driver_key_fingerprint": "A" * 40} if (cell.system, cell.source) == UNKNOWN_KEY else {}
    seen, wished = cell.survey(), wishes(gib=1, driver_source=cell.source, driver_branch=cell.branch, **named)
    decided = verdict("gpu-1", seen, wished.settings)
    around = [*checks.system("gpu-1", seen, wished), *checks.hardware("gpu-1", seen, gpus(seen), wished.settings)]
    problems = [*decided.problems, *(problem for problem in around if problem.code in OF_THE_HOST)]
    assert all(problem.where == "gpu-1" and problem.what and problem.next_step for problem in problems)
    return decided.plan, {problem.code for problem in problems}


def of_the_set(cell: Cell, branch: str) -> str:
    """Return why a release has no such packages; empty where it has."""
    offered = OFFERED.get((cell.system, cell.source))
    reasons = {
        "unsupported-distribution": offered is None,
        "unknown-branch": branch == "999",
        "unsupported-branch": branch not in (offered or ()),
        "unsupported-architecture": cell.ground == "another processor",
        "driver-fabric": cell.source == "distribution" and cell.cards in ("8x B300", "4x GB200"),
    }
    return next((code for code, holds in reasons.items() if holds), "")


def without_a_wish(cell: Cell) -> str:
    """Return the branch that a bare host comes to where nobody names one."""
    had = [name for name in ("580", "595", "620") if name in OFFERED.get((cell.system, cell.source), ())]
    usable = [name for name in had if int(name) >= LEAST.get(cell.cards, 0)]
    return next(iter((*usable, *had)), "580")


def expected(cell: Cell, plan: DriverPlan | None) -> Iterator[str]:
    """Yield what a host must be refused for, told from the combination alone and from the branch that it came to."""
    branch = cell.branch or (plan.packages.branch if plan and plan.packages else without_a_wish(cell))
    yield from filter(None, [of_the_set(cell, branch)])
    if branch == "575" and not of_the_set(cell, branch):
        yield "driver-version"
    if "P100" in cell.cards:
        yield "gpu-too-old"
    if int(branch) < 580:
        yield "driver-too-old"
    if int(branch) < LEAST.get(cell.cards, 0):
        yield "driver-branch"
    if cell.ground == "a .run installation":
        yield "runfile-driver"
    if plan is not None and plan.words[0] != f"driver {plan.version}: installed and loaded":
        yield from filter(None, [GROUNDS[cell.ground][1 + SOURCES.index(cell.source)]])
        found = origins(cell.survey().ground.packages, cell.system.partition("-")[0])
        if {*found} - {Origin(cell.source)}:
            yield "driver-origin"


def holds_together(cell: Cell, plan: DriverPlan) -> None:
    """One flavour, one origin, one branch, one version; the daemons of this hardware and no others; all of it said."""
    seen, packages = cell.survey(), plan.packages
    assert packages is not None
    kept = {name: version for name, version in seen.ground.packages.items() if name not in plan.removes}
    revision = "0ubuntu0.24.04.1" if cell.source == "distribution" else "1"
    done = {**kept, **dict.fromkeys(packages.install, f"{plan.version}-{revision}")}
    assert [name for name in done if PROPRIETARY.match(name)] == []
    assert set(origins(done, seen.host.distribution)) == {Origin(cell.source)}
    assert branches_in_names(done) <= {packages.branch}
    assert plan.version.startswith(f"{packages.branch}.")
    assert packages.branch in OFFERED[cell.system, cell.source]
    daemons = {re.sub(r"-\d{3}$", "", name) for name in packages.install if is_fabric(name)}
    assert daemons == FABRIC.get(cell.cards, set())
    beside = BESIDE.get(cell.cards, set()) | (OF_RPM if cell.system in ("rhel-9.6", "almalinux-10.1") else set())
    assert {name for name in packages.beside if not name.startswith("linux-")} == beside
    text = "\n".join(plan.words)
    changed = plan.words[0] != f"driver {plan.version}: installed and loaded"
    assert [name for name in (*plan.removes, *(packages.install if changed else ())) if name not in text] == []
    assert ("the proprietary module makes way" in text) is (cell.state == "580 of NVIDIA, proprietary")


def is_fabric(name: str) -> bool:
    return name.startswith(("nvidia-fabricmanager", "nvidia-imex", "libnvidia-nscq", "libnvsdm"))


def branches_in_names(packages: Mapping[str, str]) -> set[str]:
    """Return the branches that names carry; those of kernels are smaller numbers."""
    return {found[1] for name in packages if (found := re.search(r"-(5[3-9]\d|6\d\d)(?=-|$)", name))}


def check(cell: Cell) -> None:
    plan, codes = judged(cell)
    assert codes == set(expected(cell, plan)), cell
    if not codes:
        assert plan is not None, cell
        holds_together(cell, plan)


@pytest.mark.parametrize("system", SYSTEMS)
def test_every_branch_and_board_of_a_fresh_host_gets_its_set_or_its_refusal(system: str) -> None:
    for cards, source, branch in product(CARDS, SOURCES, BRANCHES):
        check(Cell(system=system, cards=cards, source=source, branch=branch))


@pytest.mark.parametrize("system", SYSTEMS)
def test_every_state_of_a_host_is_changed_whole_or_refused(system: str) -> None:
    for state, source, branch in product(STATES, SOURCES, (None, "580", "595")):
        check(Cell(system=system, cards="8x H100", source=source, branch=branch, state=state))


@given(
    some.builds(
        Cell,
        system=some.sampled_from(sorted(SYSTEMS)),
        cards=some.sampled_from(sorted(CARDS)),
        source=some.sampled_from(SOURCES),
        branch=some.sampled_from(BRANCHES),
        state=some.sampled_from(STATES),
        ground=some.sampled_from(sorted(GROUNDS)),
    )
)
def test_whatever_comes_together_is_planned_whole_or_refused_for_each_of_its_reasons(cell: Cell) -> None:
    check(cell)


@pytest.mark.parametrize("ground", GROUNDS)
@pytest.mark.parametrize("source", SOURCES)
def test_each_odd_host_is_refused_for_that_alone(source: str, ground: str) -> None:
    check(Cell(system="ubuntu-24.04", cards="L4 and T4", source=source, branch=None, ground=ground))
