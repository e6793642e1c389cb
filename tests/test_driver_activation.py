"""What it takes to have an installed driver loaded: nothing, modules, or a reboot, and never more than that."""

from typing import Any

import pytest

from rackhand.driver import activation
from rackhand.driver.activation import Way
from rackhand.survey import Survey
from tests.driver_hosts import decided, host, kernel, set_of

OLD, NEW = "580.126.20", "580.178.04"
RUNS = "6.8.0-90-generic"
SYSTEM = "ubuntu-24.04"


def with_driver(loaded: str | None = OLD, installed: str = NEW, module: str = NEW, **changes: Any) -> Survey:
    """Return a host that has one version loaded and another installed, built for the kernel that runs."""
    kernels = [kernel(RUNS, "generic", module=module)]
    library = {"driver__library": installed, "driver__loaded": loaded}
    found = {"kernels": kernels, "installed": set_of(SYSTEM, installed), "loaded": loaded, **library, **changes}
    return host(SYSTEM, **found)


def way(found: Survey, installs: bool = False, **wished: Any) -> activation.Activation:
    plan = decided(found, **{"driver_version": NEW, **wished}).plan
    assert plan is not None
    return activation.decide(found, plan, installs)


def test_what_is_loaded_already_takes_nothing() -> None:
    assert way(with_driver(loaded=NEW)).way is Way.NOTHING
    assert way(with_driver(loaded=NEW, installed=OLD), installs=True).way is Way.NOTHING, "a library is only put right"


def test_the_open_module_replaces_the_proprietary_one_of_the_same_version_too() -> None:
    found = with_driver(loaded=NEW, driver__flavour="proprietary")
    assert way(found, installs=True).way is Way.REBOOT
    plan = decided(found, driver_version=NEW).plan
    assert plan is not None
    assert any("reboot (the proprietary module is loaded)" in line for line in plan.words), plan.words
    assert activation.apart(found, NEW) == "the proprietary module instead of the open one"
    assert activation.apart(with_driver(loaded=NEW), NEW) == ""


def test_a_host_without_a_driver_only_loads_it() -> None:
    assert way(with_driver(loaded=None)).words == "load it"
    assert way(host(SYSTEM), installs=True).words == "load it"


def test_another_version_takes_the_place_of_the_loaded_one() -> None:
    assert way(with_driver()).words == "reload its modules"
    assert way(with_driver(installed=OLD, module=OLD), installs=True).words == "reload its modules"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"loaded": None, "driver__nouveau": True}, "nouveau has the GPUs"),
        ({"module": ""}, f"no module for {RUNS}, which runs"),
        ({"module": OLD}, f"no module for {RUNS}, which runs"),
        ({"driver__flavour": "proprietary"}, "the proprietary module is loaded"),
        ({"driver__flavour": "proprietary", "loaded": NEW}, "the proprietary module is loaded"),
        ({"unloadable": False}, "this kernel lets no module go"),
    ],
)
def test_only_a_boot_helps_where(changes: dict[str, Any], why: str) -> None:
    found = way(with_driver(**changes))
    assert (found.way, found.why) == (Way.REBOOT, why)
    assert found.words == f"reboot ({why})"


def test_a_kernel_of_which_no_headers_are_to_be_had_gets_no_module_and_the_next_one_is_booted() -> None:
    running = kernel(RUNS, "generic", next=False)
    coming = kernel("6.8.0-95-generic", running=False, headers=True)
    found = host(SYSTEM, kernels=[running, coming], headers_offered=[])
    assert way(found, installs=True).why == f"no module for {RUNS}, which runs"
    built = host(SYSTEM, kernels=[{**running, "headers": True}, coming], headers_offered=[])
    assert way(built, installs=True).way is Way.LOAD


def test_a_kernel_for_which_nobody_built_the_module_is_left_behind_by_a_boot() -> None:
    running, coming = kernel(RUNS, next=False), kernel("6.8.0-95-generic", "generic", running=False)
    plan = decided(host(SYSTEM), driver_source="distribution", driver_version=NEW).plan
    assert plan is not None
    assert plan.packages is not None
    for built, expected in ((coming, Way.REBOOT), (running, Way.LOAD)):
        offered = list(plan.packages.ready_built(built["release"]))
        found = host(SYSTEM, kernels=[running, coming], modules_offered=offered)
        assert way(found, installs=True, driver_source="distribution").way is expected


def test_the_plan_says_what_it_takes_and_what_stops() -> None:
    plan = decided(with_driver(installed=OLD, module=OLD), driver_version=NEW).plan
    assert plan is not None
    assert plan.words[0].endswith(f"(loaded now: {OLD}); reload its modules")
    assert "driver: rackhand-hardware, nvidia-persistenced stop meanwhile" in plan.words
    booted = decided(with_driver(installed=OLD, module=OLD, unloadable=False), driver_version=NEW).plan
    assert booted is not None
    assert booted.words[0].endswith("; reboot (this kernel lets no module go)")


def test_who_measures_stops_before_the_daemons_of_the_driver() -> None:
    order = activation.services()
    assert order[:4] == ("nvidia-dcgm-exporter", "dcgm-exporter", "nvidia-dcgm", "rackhand-hardware")
    assert set(order[4:]) == {"rackhand-gpus", "nvidia-imex", "nvidia-fabricmanager", "nvidia-persistenced"}


def test_module_library_and_fabric_manager_have_to_be_of_one_version() -> None:
    assert activation.apart(with_driver(loaded=NEW), NEW) == ""
    assert activation.apart(with_driver(), NEW) == f"module {OLD} instead of {NEW}"
    assert activation.apart(with_driver(loaded=None, installed=OLD), NEW) == (
        f"module missing, library {OLD} instead of {NEW}"
    )
    late = {**set_of(SYSTEM, NEW), "nvidia-fabricmanager": f"{OLD}-1"}
    assert activation.apart(with_driver(loaded=NEW, **{"packages__installed": late}), NEW) == (
        f"fabric manager {OLD} instead of {NEW}"
    )
