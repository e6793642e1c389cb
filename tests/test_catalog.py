"""The catalogue says what is known of the world, and refuses contradictions and what it does not know."""

import json
import re
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
import yaml

from rackhand import catalog
from rackhand.catalog import DriverHost, DriverSet, Origin, Platform
from rackhand.catalog.book import HERE, LOADER, Book, read
from rackhand.catalog.drivers import DriverBook
from rackhand.catalog.failures import FailureBook
from rackhand.catalog.gpus import GpuBook
from rackhand.catalog.health import HealthBook
from rackhand.catalog.memory import MemoryBook
from rackhand.catalog.models import ModelBook
from rackhand.catalog.pipelines import PipelineBook
from rackhand.catalog.platforms import PlatformBook
from rackhand.catalog.quantization import MethodBook
from rackhand.catalog.ranges import RangeBook
from rackhand.catalog.retired import RetiredBook
from rackhand.catalog.serving import ServingBook
from rackhand.catalog.signals import SignalBook
from rackhand.catalog.vllm import EngineBook
from rackhand.catalog.vllm_options import OptionBook
from rackhand.errors import RackhandError
from rackhand.lab import driver_packages as emulated

BOOKS: dict[str, type[Book]] = {
    "gpus": GpuBook,
    "drivers": DriverBook,
    "failures": FailureBook,
    "health": HealthBook,
    "memory": MemoryBook,
    "models": ModelBook,
    "pipelines": PipelineBook,
    "platforms": PlatformBook,
    "quantization": MethodBook,
    "ranges": RangeBook,
    "retired": RetiredBook,
    "serving": ServingBook,
    "vllm": EngineBook,
    "vllm_options": OptionBook,
    "signals": SignalBook,
}
SUPPORTED = [("debian", "12"), ("ubuntu", "22.04"), ("ubuntu", "24.04")]
NEWER = [*SUPPORTED, ("debian", "13"), ("ubuntu", "26.04")]


def packages(
    distribution: str,
    version: str,
    branch: str,
    origin: Origin = Origin.NVIDIA,
    platform: Platform = Platform.CARDS,
    architecture: str = "x86_64",
    flavour: str = "",
) -> DriverSet:
    """Look one set up."""
    host = DriverHost(
        distribution=distribution, version=version, architecture=architecture, platform=platform, flavour=flavour
    )
    return catalog.driver_packages(host, branch, origin)


@pytest.mark.parametrize("name", sorted(path.stem for path in HERE.glob("*.yaml")))
def test_every_file_of_the_catalogue_loads(name: str) -> None:
    read(BOOKS[name], HERE / f"{name}.yaml")


@pytest.mark.parametrize("name", sorted(BOOKS))
@pytest.mark.parametrize("damage", ["unknown key", "no source", "source that nobody explains"])
def test_a_damaged_entry_is_refused_by_file_and_key(name: str, damage: str, tmp_path: Path) -> None:
    raw = yaml.load((HERE / f"{name}.yaml").read_text(), Loader=LOADER)
    members = (value[0] if isinstance(value, list) else value for name, value in raw.items() if name != "sources")
    entry = next(member for member in members if "source" in member)
    if damage == "unknown key":
        entry["colour"] = "green"
    elif damage == "no source":
        del entry["source"]
    else:
        entry["source"] = ["hearsay"]
    path = tmp_path / f"{name}.yaml"
    path.write_text(json.dumps(raw, default=str))  # JSON is YAML
    with pytest.raises(RackhandError) as caught:
        read(BOOKS[name], path)
    assert caught.value.code == "catalog"
    assert caught.value.where == str(path)
    assert {"unknown key": "colour", "no source": "source", "source that nobody explains": "hearsay"}[
        damage
    ] in caught.value.what


def test_a_file_that_is_not_yaml_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "gpus.yaml"
    path.write_text("cards: [\n  {unfinished")
    with pytest.raises(RackhandError, match="not YAML") as caught:
        read(GpuBook, path)
    assert "\n" not in str(caught.value)


def test_an_unquoted_id_that_yaml_reads_as_a_number_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "gpus.yaml"
    path.write_text((HERE / "gpus.yaml").read_text().replace('ids: ["1e02"]', "ids: [1e02, 2330]"))
    with pytest.raises(RackhandError, match=r"cards\.\d+\.ids"):
        read(GpuBook, path)


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('ids: ["1e84"]', 'ids: ["1e81"]', "1e81"),
        ('first: "1e00"', 'first: "1e10"', "must meet"),
        ("name: T4, generation: turing", "name: T4, generation: touring", "touring"),
    ],
)
def test_a_contradiction_in_the_table_of_cards_is_refused(old: str, new: str, complaint: str, tmp_path: Path) -> None:
    path = tmp_path / "gpus.yaml"
    text = (HERE / "gpus.yaml").read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(RackhandError, match=complaint):
        read(GpuBook, path)


def test_a_remedy_that_names_a_missing_group_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "failures.yaml"
    text = (HERE / "failures.yaml").read_text()
    path.write_text(text.replace("{length} or less", "{longest} or less"))
    with pytest.raises(RackhandError, match="longest"):
        read(FailureBook, path)


def test_debian_12_gets_nvidias_own_package_names_and_key() -> None:
    driver = packages("debian", "12", "580")
    assert driver.repository_url == "https://developer.download.nvidia.com/compute/cuda/repos/debian12/x86_64"
    assert driver.key_url == f"{driver.repository_url}/3bf863cc.pub"
    assert driver.key_fingerprint == "EB693B3035CD5710E231E123A4B469963BF863CC"
    assert driver.install == ("nvidia-driver-cuda", "nvidia-kernel-open-dkms", "nvidia-modprobe", "nvidia-persistenced")
    assert driver.latest == "580.178.04"
    assert driver.services == ("nvidia-persistenced",)


@pytest.mark.parametrize("version", ["22.04", "24.04"])
def test_ubuntu_names_carry_the_branch_up_to_580_and_none_from_590_on(version: str) -> None:
    old = packages("ubuntu", version, "580")
    new = packages("ubuntu", version, "595")
    assert {"libnvidia-compute-580", "nvidia-dkms-580-open", "nvidia-utils-580"} < set(old.install)
    assert {"libnvidia-compute", "nvidia-dkms-open"} < set(new.install)
    assert not any("595" in name or "{" in name for name in (*new.install, *new.pinned))


@pytest.mark.parametrize(("distribution", "version"), NEWER)
@pytest.mark.parametrize("branch", ["595", "620"])
def test_a_host_with_nvswitches_gets_the_fabric_manager_in_the_same_set(
    distribution: str, version: str, branch: str
) -> None:
    without = packages(distribution, version, branch)
    with_switch = packages(distribution, version, branch, platform=Platform.NVSWITCH)
    assert set(with_switch.install) - set(without.install) == {"nvidia-fabricmanager", "libnvidia-nscq"}
    assert "nvidia-fabricmanager" in with_switch.services
    assert "nvidia-fabricmanager" not in without.services


@pytest.mark.parametrize(("distribution", "version"), SUPPORTED)
@pytest.mark.parametrize("branch", ["580", "590", "595", "610", "620"])
def test_every_installed_package_is_pinned_and_nvidias_other_products_are_not(
    distribution: str, version: str, branch: str
) -> None:
    driver = packages(distribution, version, branch, platform=Platform.NVSWITCH)

    def pinned(name: str) -> bool:
        return any(fnmatchcase(name, pattern) for pattern in driver.pinned)

    assert [name for name in driver.install if not pinned(name)] == []
    others = ["nvidia-container-toolkit", "libnvidia-container1", "libnvidia-egl-wayland1", "datacenter-gpu-manager"]
    assert [name for name in others if pinned(name)] == []


@pytest.mark.parametrize(
    "name",
    [
        *("libcuda1", "libnvidia-ml1", "libnvidia-ptxjitcompiler1", "libnvidia-nvvm4", "firmware-nvidia-gsp"),
        *("nvidia-kernel-support", "nvidia-opencl-icd", "libnvidia-cfg1", "libcudadebugger1", "libnvsdm"),
    ],
)
def test_what_the_debian_packages_depend_on_is_pinned_along(name: str) -> None:
    driver = packages("debian", "12", "580")
    assert any(fnmatchcase(name, pattern) for pattern in driver.pinned)


@pytest.mark.parametrize(
    "name",
    ["libnvidia-gpucomp-580", "nvidia-firmware-580", "nvidia-kernel-source-580-open", "nvidia-kernel-common-580"],
)
def test_what_the_ubuntu_packages_depend_on_is_pinned_along(name: str) -> None:
    driver = packages("ubuntu", "22.04", "580")
    assert any(fnmatchcase(name, pattern) for pattern in driver.pinned)


def test_only_stars_are_used_in_patterns_because_apt_and_dpkg_must_agree_on_them() -> None:
    assert [name for name in catalog.pinned_patterns() if not re.fullmatch(r"[a-z0-9.+*-]+", name)] == []


def test_the_patterns_to_look_for_on_a_host_are_those_of_every_set() -> None:
    patterns = set(catalog.pinned_patterns())
    for distribution, version in SUPPORTED:
        assert set(packages(distribution, version, "580", platform=Platform.NVSWITCH).pinned) <= patterns


@pytest.mark.parametrize(
    ("package", "carried"),
    [
        ("580.178.04-1ubuntu1", True),
        ("580.65.06-0ubuntu1", False),
        ("580.178.04-1", True),
        ("580.178.040-1", False),
        ("580.178.04-0ubuntu0.24.04.1", False),
        ("580x178.04-1", False),
    ],
)
def test_a_package_version_carries_a_driver_version_only_in_nvidias_own_form(package: str, carried: bool) -> None:
    driver = packages("ubuntu", "24.04", "580")
    assert driver.carries(package, "580.178.04") is carried


@pytest.mark.parametrize(("distribution", "version"), [("debian", "11"), ("arch", ""), ("ubuntu", "20.04"), ("", "")])
def test_another_distribution_is_refused_with_what_is_supported(distribution: str, version: str) -> None:
    with pytest.raises(RackhandError) as caught:
        packages(distribution, version, "580")
    assert caught.value.code == "unsupported-distribution"
    assert "Debian 12, Debian 13, Ubuntu 22.04, Ubuntu 24.04, Ubuntu 26.04" in caught.value.what
    assert caught.value.next_step


def test_a_branch_too_old_for_the_package_names_is_refused() -> None:
    with pytest.raises(RackhandError, match=r"580, 590, 595, 610, 615, 620") as caught:
        packages("ubuntu", "22.04", "535")
    assert caught.value.code == "unsupported-branch"


@pytest.mark.parametrize(("distribution", "version"), [("debian", "13"), ("ubuntu", "26.04")])
def test_the_newest_distributions_have_nothing_older_than_595_from_nvidia(distribution: str, version: str) -> None:
    with pytest.raises(RackhandError, match=r"580 cannot be installed on .*possible: 595, 610") as caught:
        packages(distribution, version, "580")
    assert caught.value.code == "unsupported-branch"
    assert ("driver_source = 'distribution'" in caught.value.next_step) is (distribution == "ubuntu")
    assert packages(distribution, version, "595").latest.startswith("595.")


def test_every_directory_is_trusted_by_its_own_key_alone() -> None:
    """Old directories keep the old key; those of new releases have one each."""
    keys = {pair: packages(*pair, "595").key_fingerprint[-8:] for pair in NEWER}
    old = {pair: "3BF863CC" for pair in SUPPORTED}
    assert keys == {**old, ("debian", "13"): "8793F200", ("ubuntu", "26.04"): "60DF8A40"}
    assert packages("ubuntu", "26.04", "595").key_url.endswith("/ubuntu2604/x86_64/60DF8A40.pub")
    assert packages("debian", "13", "595").key_url.endswith("/debian13/x86_64/8793F200.pub")


@pytest.mark.parametrize("version", ["22.04", "24.04", "26.04"])
@pytest.mark.parametrize("branch", ["580", "595"])
def test_ubuntus_own_packages_are_the_servers_with_modules_for_the_kernel_that_runs(version: str, branch: str) -> None:
    flavour = f"generic-hwe-{version}"
    own = packages("ubuntu", version, branch, Origin.DISTRIBUTION, Platform.NVSWITCH, flavour=flavour)
    assert (own.source, own.module, own.manager) == (Origin.DISTRIBUTION, "precompiled", "apt")
    assert (own.repository_url, own.key_url, own.key_fingerprint) == ("", "", "")
    assert own.beside == (f"linux-modules-nvidia-{branch}-server-open-{flavour}",)
    assert {f"nvidia-headless-no-dkms-{branch}-server-open", f"nvidia-fabricmanager-{branch}"} < set(own.install)
    assert not [name for name in own.install if "dkms" in name.replace("no-dkms", "")]
    assert own.carries(f"{branch}.91.07-0ubuntu0.{version}.1", f"{branch}.91.07")
    assert not own.carries(f"{branch}.91.07-1ubuntu1", f"{branch}.91.07")


def test_no_name_is_in_both_of_ubuntus_worlds_so_that_one_never_passes_for_the_other() -> None:
    for branch in ("580", "595"):
        sets = [packages("ubuntu", "24.04", branch, origin, Platform.NVSWITCH) for origin in Origin]
        assert set(sets[0].install) & set(sets[1].install) == set()


def test_a_distribution_without_packages_of_its_own_says_which_has_them() -> None:
    with pytest.raises(
        RackhandError, match=r"Debian 12 .*its own driver packages.*Ubuntu 22.04, Ubuntu 24.04"
    ) as caught:
        packages("debian", "12", "580", Origin.DISTRIBUTION)
    assert (caught.value.code, caught.value.next_step) == (
        "unsupported-distribution",
        "set driver_source = 'nvidia'",
    )


def test_only_what_joins_the_gpus_brings_daemons() -> None:
    def members(platform: Platform) -> tuple[set[str], tuple[str, ...], tuple[str, ...]]:
        found = packages("ubuntu", "24.04", "580", platform=platform)
        plain = packages("ubuntu", "24.04", "580")
        return set(found.install) - set(plain.install), found.beside, found.services

    fabric, both = {"nvidia-fabricmanager", "libnvidia-nscq"}, ("nvidia-persistenced", "nvidia-fabricmanager")
    assert members(Platform.CARDS) == (set(), (), ("nvidia-persistenced",))
    assert members(Platform.NVSWITCH) == (fabric, (), both)
    assert members(Platform.NVLINK5) == (fabric | {"libnvsdm"}, ("nvlsm", "infiniband-diags"), both)
    assert members(Platform.RACK) == ({"nvidia-imex"}, (), ("nvidia-persistenced", "nvidia-imex"))


@pytest.mark.parametrize("platform", [Platform.NVLINK5, Platform.RACK])
def test_a_board_whose_daemons_ubuntu_lacks_is_sent_to_nvidia(platform: Platform) -> None:
    with pytest.raises(RackhandError) as caught:
        packages("ubuntu", "24.04", "580", Origin.DISTRIBUTION, platform)
    assert (caught.value.code, caught.value.next_step) == ("driver-fabric", "set driver_source = 'nvidia'")


def test_an_unknown_branch_is_refused_with_the_known_ones() -> None:
    with pytest.raises(RackhandError, match=r"585.*580, 590") as caught:
        packages("debian", "12", "585")
    assert caught.value.code == "unknown-branch"


def test_an_arm_server_gets_its_own_directory_or_a_refusal() -> None:
    driver = packages("ubuntu", "24.04", "580", architecture="aarch64")
    assert driver.repository_url.endswith("/ubuntu2404/sbsa")
    with pytest.raises(RackhandError, match="no aarch64"):
        packages("debian", "12", "580", architecture="aarch64")


def test_the_branch_of_a_version_is_what_stands_before_the_first_dot() -> None:
    assert catalog.branch_of("580.178.04") == "580"
    assert catalog.branch("580").cuda_major == 13
    assert catalog.branch("535").cuda_major == 12


@pytest.mark.parametrize(
    ("version", "torch", "python_min"),
    [
        ("0.24.0", "2.11.0", (3, 10)),
        ("0.31.0", "2.13.0", (3, 10)),
        ("0.32.0", "2.13.0", (3, 11)),
        ("0.33.0", "2.14.0", (3, 11)),
        ("0.33.1.post1", "2.14.0", (3, 11)),
    ],
)
def test_an_engine_says_what_it_asks_of_a_host(version: str, torch: str, python_min: tuple[int, int]) -> None:
    engine = catalog.engine(version)
    assert (engine.version, engine.torch, engine.python_min) == (version, torch, python_min)
    assert (engine.cuda_major, engine.min_branch, engine.capability) == (13, "580", (7, 5))


@pytest.mark.parametrize("version", ["0.23.0", "0.34.0", "1.0.0", "latest"])
def test_an_unknown_engine_is_refused_with_the_known_range(version: str) -> None:
    with pytest.raises(RackhandError, match=r"0\.24 to 0\.33") as caught:
        catalog.engine(version)
    assert caught.value.code == "unknown-engine"


def test_the_oldest_branch_of_every_engine_speaks_its_cuda() -> None:
    for minor in range(24, 34):
        engine = catalog.engine(f"0.{minor}.0")
        assert catalog.branch(engine.min_branch).cuda_major >= engine.cuda_major


def test_every_failure_has_one_sentence_of_cause_and_one_of_remedy() -> None:
    for failure in catalog.failures():
        for text in (failure.cause, failure.remedy):
            assert text.endswith(".")
            assert ". " not in text


@pytest.mark.parametrize(
    ("distribution", "version", "directory"),
    [("debian", "12", "debian12"), ("ubuntu", "22.04", "ubuntu2204"), ("ubuntu", "24.04", "ubuntu2404")],
)
@pytest.mark.parametrize("branch", ["580", "595"])
def test_the_practice_fleets_repository_holds_the_whole_set_and_nothing_of_it_is_unpinned(
    distribution: str, version: str, directory: str, branch: str
) -> None:
    driver = packages(distribution, version, branch, platform=Platform.NVSWITCH)
    apart = ("datacenter-gpu-manager", *packages(distribution, version, branch, platform=Platform.NVLINK5).beside)
    numbered = [package for package in emulated.packages(directory) if not package.name.startswith(apart)]
    offered = [package for package in numbered if package.driver.branch == branch]
    assert driver.repository_url.endswith(f"/{directory}/x86_64")
    assert set(driver.install) <= {package.name for package in offered}
    loose = {
        package.name for package in offered if not any(fnmatchcase(package.name, pattern) for pattern in driver.pinned)
    }
    assert loose == set()
    wrong = {package.version for package in offered if not driver.carries(package.version, package.driver.upstream)}
    assert {version for version in wrong if not version.startswith(f"{branch}-")} == set()
