"""Each step looks before it acts, says in words what it would change, and refuses where acting would do harm."""

from dataclasses import replace
from typing import Any

import pytest
from pydantic import SecretStr
from typing_extensions import override

from rackhand import planner, weights
from rackhand.errors import RackhandError
from rackhand.operations import Change
from rackhand.plan import DriverPlan, Plan
from rackhand.progress import Progress
from rackhand.run import HostRun
from rackhand.survey import parse
from rackhand.wishes import Wishes
from tasks import account, activation, driver, engine, gate, gpus, preflight, record, release, switch
from tasks import weights as present
from tests.driver_hosts import decided
from tests.driver_hosts import host as ubuntu
from tests.paper import PaperHost
from tests.surveys import DRIVER, wishes

INSTALLED = "nvidia-driver-cuda", "nvidia-kernel-open-dkms", "nvidia-modprobe", "nvidia-persistenced"


def host_run(paper: PaperHost, wish: Wishes | None = None, live: bool = True, **wished: Any) -> HostRun:
    """Return a planned host in the middle of a run."""
    wish = wish or wishes(**{"driver_version": DRIVER, **wished})
    verdict = planner.plan("gpu-1", parse(paper.facts, "gpu-1"), wish)
    assert isinstance(verdict, Plan), verdict
    host = HostRun(name="gpu-1", run="run-1", session=paper, progress=Progress(lambda _: None), wishes=wish, live=live)
    host.plan = verdict
    return host


def change(found: Change | None) -> Change:
    assert found is not None
    return found


def driven(*held: str) -> PaperHost:
    """Return a host with the wished driver, of which some packages are on hold."""
    paper = PaperHost()
    paper.facts["packages"] = {"installed": dict.fromkeys(INSTALLED, f"{DRIVER}-1"), "held": list(held)}
    return paper


def test_the_account_step_installs_only_missing_packages() -> None:
    paper = PaperHost()
    paper.facts["packages"]["installed"] = {"gcc": "12"}
    found = change(account.prepare(host_run(paper)))
    assert "libc6-dev" in found.summary
    assert "gcc" not in found.summary
    found.apply()
    assert account.prepare(host_run(paper)) is None


def test_a_host_of_the_rhel_family_gets_its_compiler_by_its_own_names() -> None:
    paper = PaperHost()
    paper.facts["host"] = {**paper.facts["host"], "distribution": "rocky", "version": "9.6"}
    assert "packages gcc, glibc-devel" in change(account.prepare(host_run(paper, driver_manage=False))).summary


@pytest.mark.parametrize("package_version", [f"{DRIVER}-1", f"1:{DRIVER}-1ubuntu1", f"{DRIVER}~deb12", f"{DRIVER}+x"])
def test_a_driver_is_there_whatever_revision_its_packages_have(package_version: str) -> None:
    paper = driven(*INSTALLED)
    paper.facts["packages"]["installed"] = dict.fromkeys(INSTALLED, package_version)
    assert driver.install(host_run(paper)) is None


@pytest.mark.parametrize("held", [(), INSTALLED[:3]])
def test_a_driver_that_is_not_wholly_on_hold_is_put_on_hold(held: tuple[str, ...]) -> None:
    assert "hold" in change(driver.install(host_run(driven(*held)))).summary


def test_another_driver_version_is_installed() -> None:
    assert "580.178.04" in change(driver.install(host_run(driven(*INSTALLED), driver_version="580.178.04"))).summary


def test_a_driver_that_is_not_managed_is_never_touched() -> None:
    host = host_run(PaperHost(), driver_manage=False)
    assert driver.install(host) is None
    assert activation.activate(host) is None


def test_where_no_reboot_is_allowed_nothing_is_put_under_a_module_that_does_not_go() -> None:
    paper = PaperHost(changes={"ground": {"unloadable": False}})
    with pytest.raises(RackhandError) as caught:
        driver.install(host_run(paper, driver_version="580.178.04", driver_reboot_allowed=False))
    assert caught.value.code == "reboot-needed"
    assert DRIVER in caught.value.what
    assert "driver.put" not in paper.calls


def test_a_module_that_goes_makes_way_for_another_version_without_a_reboot() -> None:
    paper = PaperHost()
    host = host_run(paper, driver_version="580.178.04", driver_reboot_allowed=False)
    assert "580.178.04" in change(driver.install(host)).summary
    paper.facts["driver"]["library"] = "580.178.04"
    host.changed()
    host.live = True
    found = change(activation.activate(host))
    assert found.summary == f"{DRIVER} is loaded, 580.178.04 is installed: reload its modules"
    found.apply()
    assert "driver_load.renew" in paper.calls
    assert "reboot" not in paper.calls


def test_a_bare_host_has_its_driver_loaded_without_a_reboot() -> None:
    paper = PaperHost.bare()
    paper.facts["driver"]["library"] = DRIVER
    change(activation.activate(host_run(paper, driver_reboot_allowed=False))).apply()
    assert paper.facts["driver"]["loaded"] == DRIVER
    assert "reboot" not in paper.calls


def test_modules_that_are_stuck_take_a_reboot_where_it_is_allowed_and_end_the_host_where_not() -> None:
    paper = PaperHost(stuck="nvidia_drm is in use")
    paper.facts["driver"]["loaded"] = "580.95.05"
    with pytest.raises(RackhandError) as caught:
        change(activation.activate(host_run(paper, driver_reboot_allowed=False))).apply()
    assert caught.value.code == "reboot-needed"
    assert "nvidia_drm is in use" in caught.value.what
    assert "reboot" not in paper.calls
    change(activation.activate(host_run(paper))).apply()
    assert paper.calls.count("reboot") == 1


def test_no_host_is_rebooted_into_a_kernel_without_the_driver() -> None:
    paper = PaperHost(bootable=False)
    paper.facts["driver"].update(loaded=None, nouveau=True)
    with pytest.raises(RackhandError) as caught:
        change(activation.activate(host_run(paper))).apply()
    assert caught.value.code == "module-missing"
    assert "6.1.0 boots next and has no module of 580.126.20; the host needs a reboot (nouveau" in caught.value.what
    assert "reboot" not in paper.calls
    assert not paper.orders, "nothing was stopped"


def test_a_next_kernel_without_the_driver_is_told_where_no_reboot_was_needed() -> None:
    next_one = {"release": "6.1.0-next", "running": False, "next": True}
    running = {"release": "6.1.0", "running": True, "next": False, "module": DRIVER}
    paper = PaperHost(bootable=False)
    paper.facts["ground"]["kernels"] = [running, next_one]
    paper.facts["driver"]["loaded"] = "580.95.05"
    host = host_run(paper)
    change(activation.activate(host)).apply()
    assert paper.facts["driver"]["loaded"] == DRIVER
    assert [each.code for each in host.warnings] == ["module-missing"]


def test_a_next_kernel_that_takes_ready_built_modules_is_told_its_package() -> None:
    paper = PaperHost(bootable=False)
    paper.facts["driver"].update(loaded=None, nouveau=True)
    host, ready = host_run(paper), decided(ubuntu("ubuntu-24.04"), driver_source="distribution").plan
    assert host.plan
    assert ready
    host.plan = replace(host.plan, driver=replace(host.plan.driver, packages=ready.packages))
    with pytest.raises(RackhandError) as caught:
        change(activation.activate(host)).apply()
    assert caught.value.next_step == "install linux-modules-nvidia-580-server-open-6.1.0 on the host, then run again"


def test_whoever_else_holds_a_gpu_is_found_before_anything_is_stopped() -> None:
    held = RackhandError("gpu-held", "python3 (pid 7) holds a GPU", "gpu-1", "end it")
    paper = PaperHost(fails={"gpu_holders.refuse": held})
    with pytest.raises(RackhandError) as caught:
        change(driver.install(host_run(paper, driver_version="580.178.04"))).apply()
    assert caught.value.code == "gpu-held"
    assert "driver.put" not in paper.calls
    assert not paper.orders


def test_a_service_that_does_not_come_back_is_told() -> None:
    paper = PaperHost(down=["dcgm-exporter"])
    paper.facts["driver"]["loaded"] = "580.95.05"
    host = host_run(paper)
    change(activation.activate(host)).apply()
    assert [(each.code, "dcgm-exporter" in each.what) for each in host.warnings] == [("service-down", True)]


def test_a_module_of_others_that_does_not_load_with_the_new_driver_is_told() -> None:
    paper = PaperHost(lost={"gdrdrv": "modprobe gdrdrv: Invalid argument"})
    paper.facts["driver"]["loaded"] = "580.95.05"
    host = host_run(paper)
    change(activation.activate(host)).apply()
    assert [(each.code, "gdrdrv" in each.what) for each in host.warnings] == [("module-lost", True)]


def test_a_module_that_a_boot_is_still_loading_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activation, "ARRIVAL_POLL_S", 0.0)

    class Slow(PaperHost):
        answers = 0

        @override
        def reboot(self, timeout_s: int) -> None:
            self.facts["driver"]["loaded"], self.answers = None, 3

        @override
        def call(self, function: str, within_s: int = 120, **args: Any) -> Any:
            self.answers -= 1
            if self.answers == 0:
                self.facts["driver"]["loaded"] = DRIVER
            return super().call(function, within_s, **args)

    paper = Slow()
    paper.facts["driver"].update(loaded=None, nouveau=True)
    host = host_run(paper)
    change(activation.activate(host)).apply()
    assert host.survey().driver.loaded == DRIVER


def test_a_reboot_that_does_not_help_ends_the_host_and_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activation, "ARRIVAL_S", 0)

    class Stubborn(PaperHost):
        @override
        def reboot(self, timeout_s: int) -> None:
            self.calls.append("reboot")

    paper = Stubborn(stuck="modprobe nvidia: Invalid argument")
    paper.facts["driver"] = {**paper.facts["driver"], "loaded": None, "library": DRIVER}
    found = change(activation.activate(host_run(paper)))
    with pytest.raises(RackhandError) as caught:
        found.apply()
    assert caught.value.code == "driver-not-loaded"
    assert "module missing" in caught.value.what
    assert paper.calls.count("reboot") == 1


@pytest.mark.parametrize(
    "state", ["no-library", "not-loaded", "mismatch", "no-permission", "hangs", "crashed", "error"]
)
def test_each_way_in_which_nvml_does_not_work_is_an_answer_of_its_own(state: str) -> None:
    paper = PaperHost()
    host = host_run(paper)
    paper.facts["nvml"] = {"state": state, "detail": "as it said", "gpus": []}
    with pytest.raises(RackhandError) as caught:
        gpus.facts(host)
    assert caught.value.code == f"nvml-{state}"
    assert "as it said" in caught.value.what


def test_the_plan_is_finished_with_the_uuids_of_nvml() -> None:
    paper = PaperHost.bare()
    host = host_run(paper)
    assert {gpu.uuid for gpu in host.planned.gpus} == {""}
    paper.reboot(1)
    host.changed()
    assert gpus.facts(host) is None
    assert all(gpu.uuid.startswith("GPU-") for gpu in host.planned.gpus)


def test_an_environment_that_is_there_is_left_alone_and_another_is_built_beside_it() -> None:
    paper = PaperHost()
    found = change(engine.environment(host_run(paper)))
    found.apply()
    assert engine.environment(host_run(paper)) is None
    other = replace(wishes(driver_version=DRIVER), venv="ba9876543210")
    assert "ba9876543210" in change(engine.environment(host_run(paper, other))).summary


def test_uv_is_brought_once() -> None:
    paper = PaperHost()
    change(engine.environment(host_run(paper))).apply()
    paper.facts["state"]["venv"] = {}
    change(engine.environment(host_run(paper))).apply()
    assert [path.rpartition("/")[2] for path in paper.files] == ["uv-000000000000"]


def test_truncated_weights_are_copied_again_and_whole_ones_are_not() -> None:
    paper = PaperHost()
    change(present.present(host_run(paper))).apply()
    assert present.present(host_run(paper)) is None
    paper.facts["state"]["model_intact"] = False
    assert "llama@abcdefabcdef" in change(present.present(host_run(paper))).summary


def test_the_hubs_token_travels_in_the_environment_alone() -> None:
    sent: dict[str, Any] = {}

    class Listening(PaperHost):
        def weights_download(self, **arguments: Any) -> None:
            sent.update(arguments)

    hub = wishes(model_path=None, model_hub_id="a/b", model_revision="a" * 40, driver_version=DRIVER)
    hub = replace(hub, weights=weights.hub("a/b", "llama", "a" * 40), hub_token=SecretStr("canary"))
    found = change(present.present(host_run(Listening(), hub)))
    assert "canary" not in found.summary
    found.apply()
    assert sent.pop("environment")["HF_TOKEN"] == "canary"
    assert "canary" not in repr(sent)


def test_nothing_is_rendered_before_the_gpus_are_known() -> None:
    host = host_run(PaperHost.bare(), live=False)
    assert release.stage(host) is None
    assert switch.over(host) is None


def test_a_release_that_lies_there_unharmed_is_not_placed_again() -> None:
    paper = PaperHost()
    host = host_run(paper)
    assert "render" in change(release.stage(host)).summary
    assert host.release is not None
    paper.facts["state"]["releases"] = {host.release.id: host.release.fingerprint}
    host.changed()
    assert release.stage(host) is None
    paper.facts["state"]["releases"] = {host.release.id: "touched"}
    host.changed()
    assert "restore" in change(release.stage(host)).summary


UNIT = {
    "name": "llama-0", "active": "active", "sub": "running", "enabled": True, "restarts": 0, "result": "", "pid": 7,
}  # fmt: skip


def serving(paper: PaperHost, **wished: Any) -> HostRun:
    """Return a host on which everything of its release runs."""
    host = host_run(paper, **wished)
    release.stage(host)
    assert host.release is not None
    made = host.release
    units = [{**UNIT, "name": name, "running_config": config} for name, config in made.configs.items()]
    paper.facts["state"].update(current=made.id, unit_sha256=made.unit_sha256, drop_ins=dict(made.drop_ins))
    paper.facts["state"]["instances"] = units
    host.changed()
    return host


def wants(paper: PaperHost, host: HostRun, **state: Any) -> str:
    """Return why a host would have a turn once its state has changed; empty where it would have none."""
    paper.facts["state"].update(state)
    host.changed()
    found = switch.over(host)
    return found.summary if found else ""


def test_a_host_on_which_everything_runs_has_no_turn() -> None:
    paper = PaperHost()
    assert wants(paper, serving(paper)) == ""


def test_a_unit_file_that_was_changed_by_hand_is_put_back() -> None:
    paper = PaperHost()
    assert "restore the unit file" in wants(paper, serving(paper), unit_sha256="touched")


def test_another_release_is_a_reason_to_switch() -> None:
    paper = PaperHost()
    assert "switch from release older to" in wants(paper, serving(paper), current="older")


def test_the_first_release_of_a_host_is_switched_to_from_none() -> None:
    paper = PaperHost()
    assert "switch to release " in wants(paper, serving(paper), current="")


@pytest.mark.parametrize(
    ("unit", "said"),
    [
        (None, "does not run"),
        ({"active": "failed"}, "failed"),
        ({"active": "inactive"}, "inactive"),
        ({"running_config": "another"}, "configuration changed"),
        ({"owed": True}, "changed by hand"),
        ({"enabled": False}, "enable"),
        ({}, ""),
    ],
)
def test_an_instance_is_started_for_a_reason_and_left_alone_without(unit: dict[str, Any] | None, said: str) -> None:
    paper = PaperHost()
    host = serving(paper)
    (running,) = paper.facts["state"]["instances"]
    found = wants(paper, host, instances=[] if unit is None else [{**running, **unit}])
    assert found.count(said) >= bool(said)
    assert (found == "") is (unit == {})


@pytest.mark.parametrize(
    ("unit", "stopped"),
    [
        ({"name": "old-0"}, True),
        ({"name": "old-0", "active": "inactive", "enabled": False}, False),
        ({"name": "old-0", "active": "failed", "enabled": True}, True),
        ({"name": "llama-0"}, False),
    ],
)
def test_only_what_is_not_planned_and_could_run_is_stopped(unit: dict[str, Any], stopped: bool) -> None:
    paper = PaperHost()
    host = serving(paper)
    (running,) = paper.facts["state"]["instances"]
    more = [{**UNIT, "running_config": "", **unit}] if unit["name"] != "llama-0" else []
    assert ("stop old-0" in wants(paper, host, instances=[running, *more])) is stopped


def test_before_execution_no_step_waits_for_a_server() -> None:
    paper = PaperHost()
    host = host_run(paper, live=False)
    for step in (preflight.verdict, gpus.facts, gate.passed, record.finish, activation.activate):
        assert step(host) is None
    assert not host.finished
    assert not [call for call in paper.calls if call.startswith("gate")]


def test_a_drop_in_that_differs_is_a_reason_to_switch() -> None:
    nodes = [{"node": node, "cpus": f"{node}", "memory_mib": 1} for node in (0, 1)]
    paper = PaperHost(cards=("h100", "h100"), changes={"nodes": nodes, "pci.1.numa_node": 1})
    host = serving(paper)
    assert wants(paper, host) == ""
    assert "restore the unit file" in wants(paper, host, drop_ins={})


def test_the_key_of_debian_13_is_asked_for_under_the_name_that_nvidia_gave_it() -> None:
    class Noting(PaperHost):
        @override
        def driver_stage(self, wish: dict[str, Any], **args: Any) -> dict[str, str]:
            asked.append(wish["key_url"])
            return super().driver_stage(wish)

    asked: list[str] = []
    nothing = {"loaded": None, "flavour": "", "library": None, "nouveau": False, "runfile": False}
    mirror = {"driver_branch": "595", "driver_version": "595.91.07", "driver_repository_url": "https://mirror/debian13"}
    for named in (None, "02182E60104FCDC26EAE1B8597A5D4CB8793F200", "0" * 32 + "ABCDEF01"):
        paper = Noting(changes={"driver": nothing, "host.version": "13"})
        change(driver.stage(host_run(paper, driver_key_fingerprint=named, **mirror))).apply()
    assert asked == [f"https://mirror/debian13/{name}.pub" for name in ("8793F200", "8793F200", "abcdef01")]


def test_a_driver_that_was_left_half_installed_is_installed_again() -> None:
    paper = driven(*INSTALLED)
    paper.facts["packages"]["unfinished"] = ["other", "libcuda1"]
    found = change(driver.install(host_run(paper)))
    assert "libcuda1 had been left half installed" in found.summary
    assert "other" not in found.summary
    assert found.together


def test_a_ready_built_module_that_somebody_took_away_is_put_back() -> None:
    kinds = ("nvidia-headless-no-dkms-{}", "libnvidia-compute-{}", "nvidia-compute-utils-{}", "nvidia-utils-{}")
    names = [kind.format("580-server") for kind in kinds]
    names[0] += "-open"
    modules = "linux-modules-nvidia-580-server-open-generic"
    kernel = {"release": "6.8.0-90-generic", "running": True, "next": True, "package": True}
    for there in (True, False):
        paper = driven(*names)
        installed = dict.fromkeys(names, f"{DRIVER}-0ubuntu0.24.04.1")
        paper.facts["packages"]["installed"] = installed
        paper.facts["host"] = {**paper.facts["host"], "distribution": "ubuntu", "version": "24.04"}
        kept = {**installed, modules: "6.8.0-90.91"} if there else installed
        paper.facts["ground"] = {"packages": kept, "kernels": [{**kernel, "meta": "linux-image-generic"}]}
        found = driver.install(host_run(paper, driver_source="distribution", driver_version=DRIVER))
        assert (found is None) is there
    paper.facts["driver_sets"] = {"sets": {}}
    change(found).apply()
    assert modules in paper.facts["packages"]["installed"]


def test_what_others_left_half_installed_is_no_reason_to_install_a_driver() -> None:
    paper = driven(*INSTALLED)
    paper.facts["packages"]["unfinished"] = ["other"]
    assert driver.install(host_run(paper)) is None


def test_packages_are_staged_when_they_are_to_change_and_not_to_put_back_a_hold() -> None:
    stored = {"sets": {"a": {"version": DRIVER, "packages": INSTALLED}}, "current": "a"}
    whole, loose = driven(*INSTALLED), driven()
    for paper in (whole, loose):
        paper.facts["driver_sets"] = stored
        assert driver.stage(host_run(paper)) is None
    found = change(driver.stage(host_run(loose, driver_version="580.178.04")))
    found.apply()
    assert "580.178.04" in found.summary
    assert "driver.put" not in loose.calls


@pytest.mark.parametrize("wrong", ["off", "loose"])
def test_a_host_that_differs_from_its_stored_set_is_put_right(wrong: str) -> None:
    paper = driven(*INSTALLED)
    stored = {"a": {"version": DRIVER, "packages": INSTALLED}}
    paper.facts["driver_sets"] = {"sets": stored, "current": "a", wrong: ["libcuda1 is 595.91.07-1"]}
    found = change(driver.install(host_run(paper)))
    assert found.together is (wrong == "off")


def test_a_stored_driver_is_put_back_with_the_release_that_ran_on_it() -> None:
    stored = {name: {"version": name, "packages": INSTALLED} for name in (DRIVER, "595.91.07")}
    paper = driven(*INSTALLED)
    paper.facts["driver_sets"] = {"sets": stored, "current": "595.91.07", "installed": "595.91.07"}
    host = host_run(paper)
    assert driver.restore(host) is None, "a deploy asks for packages"
    host.plan = replace(host.planned, driver=DriverPlan(version=DRIVER, packages=None, stored=True))
    found = change(driver.restore(host))
    assert found.together
    found.apply()
    assert host.driver_changed
    assert "driver.put" in paper.calls
    paper.facts["driver_sets"]["installed"] = DRIVER
    host.changed()
    assert driver.restore(host) is None


@pytest.mark.parametrize("required", [False, True])
def test_a_driver_without_a_way_back_is_a_warning_or_refused(required: bool) -> None:
    paper = driven(*INSTALLED)
    paper.no_way_back = "580.95.05 cannot be fetched any more"
    host = host_run(paper, driver_version="580.178.04", driver_require_rollback=required)
    found = change(driver.stage(host))
    if required:
        with pytest.raises(RackhandError) as caught:
            found.apply()
        assert caught.value.code == "rollback-not-guaranteed"
        assert "nothing was changed" in caught.value.what
    else:
        found.apply()
        assert [each.code for each in host.warnings] == ["rollback-not-guaranteed"]
