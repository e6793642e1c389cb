"""Which packages the emulated repositories hold: driver_packages.yaml, filled in per distribution and version."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from rackhand.catalog.book import LOADER

DESCRIPTION = Path(__file__).with_name("driver_packages.yaml")
DEBIAN_REVISION = "1"
PINNING_REVISION = {"debian": "1", "ubuntu": "2ubuntu1"}
RELATIONS = ("depends", "recommends", "provides", "conflicts", "replaces")


@dataclass(frozen=True, kw_only=True)
class Driver:
    """One version of the driver; CUDA 13.0 is 13000."""

    upstream: str
    cuda_version: int

    @property
    def branch(self) -> str:
        """Return the branch: 580 of 580.126.20."""
        return self.upstream.split(".")[0]


@dataclass(frozen=True, kw_only=True)
class Package:
    """One binary package of one version."""

    name: str
    version: str
    driver: Driver
    description: str
    payloads: tuple[str, ...]
    relations: tuple[tuple[str, str], ...]

    @property
    def file_name(self) -> str:
        """Return the name of its .deb."""
        return f"{self.name}_{self.version.rpartition(':')[2]}_amd64.deb"

    def control(self, installed_kib: int) -> str:
        """Return its control file; `installed_kib` is the size of its payload."""
        fields = {
            "Package": self.name,
            "Version": self.version,
            "Architecture": "amd64",
            "Maintainer": "rackhand practice fleet <lab@rackhand.invalid>",
            "Installed-Size": str(installed_kib),
            "Section": "misc",
            "Priority": "optional",
            **{relation.capitalize(): value for relation, value in self.relations},
            "Description": f"{self.description}\n Emulated by the practice fleet; holds no NVIDIA code.",
        }
        return "".join(f"{key}: {value}\n" for key, value in fields.items())


def distributions(archives: bool = True) -> tuple[str, ...]:
    """Return the names of the emulated directories, as NVIDIA names them, and of Ubuntu's `archives`."""
    layouts = _description()["distributions"].items()
    return tuple(name for name, layout in layouts if archives or layout["revision"] != "archive")


def drivers() -> tuple[Driver, ...]:
    """Return every driver version, oldest first."""
    versions = _description()["versions"]
    return tuple(Driver(upstream=name, cuda_version=facts["cuda"]) for name, facts in versions.items())


def packages(distribution: str) -> tuple[Package, ...]:
    """Return every package of every version in the directory of `distribution`, each name and version once."""
    found: dict[str, Package] = {}
    for driver in drivers():
        for package in _of_driver(distribution, driver):
            found.setdefault(package.file_name, package)
    return tuple(found.values())


def _description() -> Mapping[str, Any]:
    description: dict[str, Any] = yaml.load(DESCRIPTION.read_text(), Loader=LOADER)
    return description


def _of_driver(distribution: str, driver: Driver) -> Iterator[Package]:
    description = _description()
    layout = description["distributions"][distribution]
    for name in layout.get(driver.branch, ()):
        for pattern, facts in description["sets"][name].items():
            version = facts.get("version") or _version(layout, facts.get("revision", ""), driver, description)
            yield _filled(pattern, facts, driver, version, layout)


def _version(layout: Mapping[str, Any], kind: str, driver: Driver, description: Mapping[str, Any]) -> str:
    family = layout["revision"]
    if family == "archive":
        return f"{driver.upstream}-0ubuntu0.{layout['release']}.1"
    if kind == "branch":
        return f"{driver.branch}-{PINNING_REVISION[family]}"
    if family == "debian":
        return f"{driver.upstream}-{DEBIAN_REVISION}"
    return f"{driver.upstream}-{description['versions'][driver.upstream][kind or family]}"


def _filled(pattern: str, facts: Mapping[str, Any], driver: Driver, version: str, layout: Mapping[str, Any]) -> Package:
    words = {"upstream": driver.upstream, "full": version, "branch": driver.branch}
    words |= {key: layout[key] for key in ("kernel", "kind") if key in layout}
    relations = [(key, ", ".join(facts[key]).format(**words)) for key in RELATIONS if key in facts]
    return Package(
        name=pattern.format(**words),
        version=version,
        driver=driver,
        description=facts["description"].format(**words),
        payloads=tuple(facts.get("payload", "").split()),
        relations=tuple(relations),
    )
