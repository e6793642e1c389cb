"""The catalogue says what is known of the world, and refuses contradictions and what it does not know."""

import json
import re
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
import yaml

from rackhand import catalog
from rackhand.catalog.book import HERE, LOADER, Book, read
from rackhand.catalog.drivers import DriverBook
from rackhand.catalog.failures import FailureBook
from rackhand.catalog.gpus import GpuBook
from rackhand.catalog.memory import MemoryBook
from rackhand.catalog.models import ModelBook
from rackhand.catalog.pipelines import PipelineBook
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
    "memory": MemoryBook,
    "models": ModelBook,
    "pipelines": PipelineBook,
    "quantization": MethodBook,
    "ranges": RangeBook,
    "retired": RetiredBook,
    "serving": ServingBook,
    "vllm": EngineBook,
    "vllm_options": OptionBook,
    "signals": SignalBook,
}
SUPPORTED = [("debian", "12"), ("ubuntu", "22.04"), ("ubuntu", "24.04")]


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
    driver = catalog.driver_packages("debian", "12", "580", nvswitch=False)
    assert driver.repository_url == "https://developer.download.nvidia.com/compute/cuda/repos/debian12/x86_64"
    assert driver.key_url == f"{driver.repository_url}/3bf863cc.pub"
    assert driver.key_fingerprint == "EB693B3035CD5710E231E123A4B469963BF863CC"
    assert driver.install == ("nvidia-driver-cuda", "nvidia-kernel-open-dkms", "nvidia-modprobe", "nvidia-persistenced")
    assert driver.latest == "580.178.04"
    assert driver.services == ("nvidia-persistenced",)


@pytest.mark.parametrize("version", ["22.04", "24.04"])
def test_ubuntu_names_carry_the_branch_up_to_580_and_none_from_590_on(version: str) -> None:
    old = catalog.driver_packages("ubuntu", version, "580", nvswitch=False)
    new = catalog.driver_packages("ubuntu", version, "595", nvswitch=False)
    assert {"libnvidia-compute-580", "nvidia-dkms-580-open", "nvidia-utils-580"} < set(old.install)
    assert {"libnvidia-compute", "nvidia-dkms-open"} < set(new.install)
    assert not any("595" in name or "{" in name for name in (*new.install, *new.pinned))


@pytest.mark.parametrize(("distribution", "version"), SUPPORTED)
@pytest.mark.parametrize("branch", ["580", "595", "620"])
def test_a_host_with_nvswitches_gets_the_fabric_manager_in_the_same_set(
    distribution: str, version: str, branch: str
) -> None:
    without = catalog.driver_packages(distribution, version, branch, nvswitch=False)
    with_switch = catalog.driver_packages(distribution, version, branch, nvswitch=True)
    assert set(with_switch.install) - set(without.install) == {"nvidia-fabricmanager", "libnvidia-nscq"}
    assert "nvidia-fabricmanager" in with_switch.services
    assert "nvidia-fabricmanager" not in without.services


@pytest.mark.parametrize(("distribution", "version"), SUPPORTED)
@pytest.mark.parametrize("branch", ["580", "590", "595", "610", "620"])
def test_every_installed_package_is_pinned_and_nvidias_other_products_are_not(
    distribution: str, version: str, branch: str
) -> None:
    driver = catalog.driver_packages(distribution, version, branch, nvswitch=True)

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
    driver = catalog.driver_packages("debian", "12", "580", nvswitch=False)
    assert any(fnmatchcase(name, pattern) for pattern in driver.pinned)


@pytest.mark.parametrize(
    "name",
    ["libnvidia-gpucomp-580", "nvidia-firmware-580", "nvidia-kernel-source-580-open", "nvidia-kernel-common-580"],
)
def test_what_the_ubuntu_packages_depend_on_is_pinned_along(name: str) -> None:
    driver = catalog.driver_packages("ubuntu", "22.04", "580", nvswitch=False)
    assert any(fnmatchcase(name, pattern) for pattern in driver.pinned)


def test_only_stars_are_used_in_patterns_because_apt_and_dpkg_must_agree_on_them() -> None:
    assert [name for name in catalog.pinned_patterns() if not re.fullmatch(r"[a-z0-9.+*-]+", name)] == []


def test_the_patterns_to_look_for_on_a_host_are_those_of_every_set() -> None:
    patterns = set(catalog.pinned_patterns())
    for distribution, version in SUPPORTED:
        assert set(catalog.driver_packages(distribution, version, "580", nvswitch=True).pinned) <= patterns


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
    driver = catalog.driver_packages("ubuntu", "24.04", "580", nvswitch=False)
    assert driver.carries(package, "580.178.04") is carried


@pytest.mark.parametrize(
    ("distribution", "version"), [("debian", "13"), ("debian", "11"), ("rocky", "9"), ("ubuntu", "26.04"), ("", "")]
)
def test_another_distribution_is_refused_with_what_is_supported(distribution: str, version: str) -> None:
    with pytest.raises(RackhandError) as caught:
        catalog.driver_packages(distribution, version, "580", nvswitch=False)
    assert caught.value.code == "unsupported-distribution"
    assert "Debian 12, Ubuntu 22.04, Ubuntu 24.04" in caught.value.what
    assert caught.value.next_step


def test_a_branch_too_old_for_the_package_names_is_refused() -> None:
    with pytest.raises(RackhandError, match="580 to 580 or 590 to 620") as caught:
        catalog.driver_packages("ubuntu", "22.04", "535", nvswitch=False)
    assert caught.value.code == "unsupported-branch"


def test_an_unknown_branch_is_refused_with_the_known_ones() -> None:
    with pytest.raises(RackhandError, match=r"585.*580, 590") as caught:
        catalog.driver_packages("debian", "12", "585", nvswitch=False)
    assert caught.value.code == "unknown-branch"


def test_an_arm_server_gets_its_own_directory_or_a_refusal() -> None:
    driver = catalog.driver_packages("ubuntu", "24.04", "580", nvswitch=False, architecture="aarch64")
    assert driver.repository_url.endswith("/ubuntu2404/sbsa")
    with pytest.raises(RackhandError, match="no aarch64"):
        catalog.driver_packages("debian", "12", "580", nvswitch=False, architecture="aarch64")


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
    driver = catalog.driver_packages(distribution, version, branch, nvswitch=True)
    offered = [package for package in emulated.packages(directory) if package.driver.branch == branch]
    assert driver.repository_url.endswith(f"/{directory}/x86_64")
    assert set(driver.install) <= {package.name for package in offered}
    loose = {
        package.name for package in offered if not any(fnmatchcase(package.name, pattern) for pattern in driver.pinned)
    }
    assert loose == set()
    wrong = {package.version for package in offered if not driver.carries(package.version, package.driver.upstream)}
    assert {version for version in wrong if not version.startswith(f"{branch}-")} == set()
