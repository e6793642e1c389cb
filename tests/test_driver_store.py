"""Which stored set of a driver's packages is put on, where several are of one version."""

from pathlib import Path

import pytest

from rackhand.remote import driver_journal
from tests.driver_hosts import decided, host, kernel
from tests.driver_states import NEW, NEXT, OLD, nvidias, servers, without
from tests.stored_drivers import Store

SYSTEM, KERNEL = "ubuntu-24.04", "6.8.0-90-generic"
META = "linux-modules-nvidia-580-server-open-generic"
NEXT_KERNEL = "6.8.0-95-generic"
KINDS = ("modules-nvidia-580-server-open", "objects-nvidia-580-server-open", "signatures-nvidia")
NEXT_MODULES = {f"linux-{kind}-{NEXT_KERNEL}": "6.8.0-95.96" for kind in KINDS}
FABRIC = ("nvidia-fabricmanager", "libnvidia-nscq")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    return Store(tmp_path / "root", monkeypatch)


def test_a_driver_comes_back_with_the_fabric_manager_that_somebody_had_forgotten(store: Store) -> None:
    partial = nvidias("debian-12", OLD)
    whole = {**partial, **dict.fromkeys(FABRIC, f"{OLD}-1")}
    wished = store.keep(OLD, whole)
    store.here = partial
    found = decided(host("debian-12", cards=("h100",) * 8, switched=True, installed=partial, loaded=OLD))
    assert store.deploy(found)["set"] == wished
    assert store.here == whole
    store.accept()
    store.deployed(store.keep(NEXT, {name: f"{NEXT}-1" for name in whole}))
    store.put(OLD)
    assert store.here == whole


def test_a_meta_package_that_somebody_took_away_comes_back(store: Store) -> None:
    whole = servers(SYSTEM, NEW)
    partial = without(whole, META)
    store.deployed(store.keep(NEW, whole))
    store.here = dict(partial)
    runs = kernel(KERNEL, "generic", module=NEW)
    found = decided(host(SYSTEM, installed=partial, loaded=NEW, kernels=[runs]), driver_source="distribution")
    store.deploy(found)
    assert store.here == whole


def test_what_was_simulated_is_put_on_where_the_installed_set_has_all_that_was_wished_too(store: Store) -> None:
    whole = nvidias("debian-12", OLD)
    store.keep(OLD, whole)
    store.here = without(whole, "libnvidia-nvvm704")
    found = decided(host("debian-12", installed=store.here, loaded=OLD))
    staged = store.deploy(found)
    assert staged["set"] != staged["here"]
    assert store.here == whole


@pytest.mark.parametrize("kernels", [{}, {"linux-image-generic": "6.8.0-95.95"}])
def test_modules_that_ubuntu_built_for_another_kernel_here_are_left_alone(
    store: Store, kernels: dict[str, str]
) -> None:
    store.deployed(store.keep(NEW, servers(SYSTEM, NEW)))
    store.here |= {**NEXT_MODULES, **kernels, f"linux-image-{NEXT_KERNEL}": "6.8.0-95.95"}
    before = dict(store.here)
    assert driver_journal.standing(store.base)["off"] == []
    store.put(NEW)
    assert store.here == before
    assert set(NEXT_MODULES) <= store.held


def test_modules_of_a_kernel_that_is_gone_or_of_another_branch_go(store: Store) -> None:
    store.deployed(store.keep(NEW, servers(SYSTEM, NEW)))
    whole = dict(store.here)
    other = f"linux-modules-nvidia-595-server-open-{NEXT_KERNEL}"
    store.here |= {**NEXT_MODULES, other: "6.8.0-95.96"}
    store.put(NEW)
    assert store.here == whole
    images = {f"linux-image-{NEXT_KERNEL}": "6.8.0-95.95"}
    store.here |= {other: "6.8.0-95.96", **images}
    store.put(NEW)
    assert store.here == whole | images


def test_what_somebody_added_in_the_same_version_is_on_hold_with_the_others(store: Store) -> None:
    store.deployed(store.keep(OLD, nvidias("debian-12", OLD)))
    store.here["nvidia-settings"] = f"{OLD}-1"
    store.put(OLD)
    assert "nvidia-settings" in store.held
    assert driver_journal.standing(store.base)["phase"] == "healthy", "nothing changed that has to prove itself"


def test_what_brings_the_modules_of_the_newest_kernel_may_move_on_with_it(store: Store) -> None:
    name = store.keep(NEW, servers(SYSTEM, NEW))
    store.deployed(name)
    whole = dict(store.here)
    moved = {**NEXT_MODULES, META: "6.8.0-95.96", f"linux-image-{NEXT_KERNEL}": "6.8.0-95.95"}
    store.here |= moved
    assert driver_journal.standing(store.base)["off"] == []
    store.put(NEW)
    assert store.here == whole | moved
    store.deployed(store.keep(OLD, servers(SYSTEM, OLD)))
    store.here |= moved
    store.put(NEW)
    assert store.here == whole | moved | {META: whole[META]}, "among packages of another version it would fit none"


def test_what_brings_the_modules_of_an_older_kernel_is_put_right(store: Store) -> None:
    store.deployed(store.keep(NEW, servers(SYSTEM, NEW)))
    whole = dict(store.here)
    store.here[META] = "6.8.0-85.86"
    store.put(NEW)
    assert store.here == whole
