"""What apt itself makes of every plan, release by release: fresh, in branch, across the change of names, and back.

The code that stages a driver runs here as it does on a host, with the real apt and dpkg on directories of their own,
and the emulated repositories. To renew the files after looking at the difference: REWRITE_GOLDEN=1 pytest (this file)
"""

import json
import os
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

from rackhand.catalog import pinned_patterns
from rackhand.lab import driver_repo
from rackhand.plan import DriverPlan
from rackhand.remote import apt_sets, command, dpkg, driver_fetch, driver_files, driver_repair
from tests.driver_hosts import decided, host

GOLDEN = Path(__file__).parents[1] / "golden" / "transactions"
NVIDIAS = {"debian-12": "debian12", "debian-13": "debian13", "ubuntu-22.04": "ubuntu2204", "ubuntu-24.04": "ubuntu2404",
           "ubuntu-26.04": "ubuntu2604"}  # fmt: skip
ARCHIVES = {"ubuntu-22.04": "jammy", "ubuntu-24.04": "noble", "ubuntu-26.04": "resolute"}
PLACES = [("nvidia", system, folder) for system, folder in NVIDIAS.items()]
PLACES += [("distribution", system, folder) for system, folder in ARCHIVES.items()]
JOURNEY = ("580.95.05", "580.126.20", "595.91.07", "580.126.20")
JOURNEY_595 = ("595.71.05", "595.91.07", "595.71.05")
SWITCHES = {"cards": ("h100",) * 8, "switched": True}
BOARDS = {"8x B200": {"cards": ("b200",) * 8}, "4x GB200": {"cards": ("gb200",) * 4}}
FOLDERS = ("state/lists/partial", "cache/archives/partial", "etc/preferences.d", "etc/sources.list.d", "etc/apt.conf.d",
           "etc/trusted.gpg.d", "dpkg/info", "dpkg/updates", "keys", "log")  # fmt: skip
LIMIT_S = 120
OF_FILE = re.compile(r"Filename|Size|MD5|SHA")


class Machine:
    """A host that exists only as a directory, as far as apt, dpkg and our own code on it see."""

    def __init__(self, root: Path, folder: str, source: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.source = root, source
        self.repository = driver_repo.build() / folder / "x86_64"
        for each in FOLDERS:
            (root / each).mkdir(parents=True, exist_ok=True)
        (root / "dpkg/status").write_text("")
        own = f"deb [trusted=yes] copy:{self.repository} /\n" if source == "distribution" else ""
        (root / "etc/sources.list").write_text(own)
        settings = {
            "Dir::Etc": f"{root}/etc",
            "Dir::State": f"{root}/state",
            "Dir::State::status": f"{root}/dpkg/status",
            "Dir::Cache": f"{root}/cache",
            "Dir::Log": f"{root}/log",
            "APT::Architecture": "amd64",
            "APT::Sandbox::User": "",
            "Acquire::Languages": "none",
        }
        (root / "apt.conf").write_text("".join(f'{name} "{value}";\n' for name, value in settings.items()))
        monkeypatch.setenv("APT_CONFIG", str(root / "apt.conf"))
        monkeypatch.setenv("DPKG_ADMINDIR", str(root / "dpkg"))
        monkeypatch.setattr(command, "LOGS", root / "log")
        monkeypatch.setattr(dpkg, "JOURNAL", root / "dpkg/updates")
        monkeypatch.setattr(apt_sets, "PREFERENCES", root / "etc/preferences.d")
        for module in (apt_sets, driver_repair):
            monkeypatch.setattr(module, "ARCHIVES", root / "cache/archives")
        monkeypatch.setattr(driver_files, "KEYRING", root / "keys/rackhand-nvidia.asc")
        monkeypatch.setattr(driver_files, "SOURCE", root / "etc/sources.list.d/rackhand-nvidia.sources")

    def stage(self, plan: DriverPlan) -> Mapping[str, Mapping[str, str]]:
        """Let our code store the planned set and simulate its exchange; return what the set is."""
        assert plan.packages is not None
        remote = self.source == "nvidia"
        wish = {
            "repository_url": f"copy:{self.repository}" if remote else "",
            "key_url": f"file://{self.repository}/{driver_repo.NVIDIA_KEY_FILE}" if remote else "",
            "fingerprint": driver_repo.fingerprint(driver_repo.build()),
            "packages": list(plan.packages.install),
            "beside": list(plan.packages.beside),
            "headers": list(plan.headers),
            "needs": list(plan.needs),
            "family": list(pinned_patterns()),
            "services": [],
            "version": plan.version,
        }
        staged = driver_fetch.stage(self.root / "opt", wish, LIMIT_S)
        found: dict[str, dict[str, str]] = json.loads((self.root / f"opt/driver/{staged['set']}/set.json").read_text())
        return found

    def simulated(self) -> tuple[dict[str, str], list[str]]:
        """Return what apt said last that it would install, and what it would take away."""
        return apt_sets.planned(command.read("driver-simulate"))

    def become(self, found: Mapping[str, Mapping[str, str]]) -> None:
        """Have these packages installed, and these alone, as far as dpkg knows."""
        stanzas = [installed(self.repository, *pair) for kind in ("members", "beside") for pair in found[kind].items()]
        (self.root / "dpkg/status").write_text("\n\n".join(stanzas) + "\n")


@cache
def index(repository: Path) -> dict[tuple[str, str], str]:
    """Return the stanzas of a repository by name and version."""
    stanzas = (repository / "Packages").read_text().strip().split("\n\n")
    return {(field(stanza, "Package"), field(stanza, "Version")): stanza for stanza in stanzas}


def field(stanza: str, name: str) -> str:
    found = re.search(rf"^{name}: (.+)$", stanza, re.MULTILINE)
    assert found is not None
    return found[1]


def installed(repository: Path, name: str, version: str) -> str:
    first, *rest = index(repository)[name, version].splitlines()
    return "\n".join([first, "Status: install ok installed", *(line for line in rest if not OF_FILE.match(line))])


def planned(system: str, source: str, shape: Mapping[str, object], version: str, here: Mapping[str, str]) -> DriverPlan:
    found = host(system, **shape, installed=here, loaded=next(iter(here.values()), "").partition("-")[0] or None)  # type: ignore[arg-type]
    verdict = decided(found, driver_source=source, driver_version=version)
    assert verdict.problems == ()
    assert verdict.plan is not None
    return verdict.plan


def travelled(machine: Machine, system: str, shape: Mapping[str, object], versions: tuple[str, ...]) -> Iterator[str]:
    """Yield what apt does at each stop of a journey; the plan says what goes before apt does."""
    here: dict[str, str] = {}
    for version in versions:
        plan = planned(system, machine.source, shape, version, here)
        found = machine.stage(plan)
        comes, goes = machine.simulated()
        assert plan.packages is not None
        assert set(goes) == set(plan.removes), "what the plan says that goes is what apt takes away"
        assert {dpkg.upstream(comes[name]) for name in plan.packages.install} == {version}
        before = f"from {next(iter(here.values())).partition('-')[0]} " if here else ""
        yield f"  {before}to {version}"
        yield from (f"    + {name} {comes[name]}" for name in sorted(comes))
        yield from (f"    - {name}" for name in sorted(goes))
        machine.become(found)
        here = {**found["members"]}


@pytest.mark.parametrize(("source", "system", "folder"), PLACES)
def test_apt_makes_of_every_plan_the_transaction_that_an_operator_read_and_approved(
    source: str, system: str, folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journey = JOURNEY if source == "distribution" or folder not in ("debian13", "ubuntu2604") else JOURNEY_595
    shapes: dict[str, tuple[Mapping[str, object], tuple[str, ...]]] = {
        "4x L4": ({"cards": ("l4",) * 4}, journey),
        "8x H100 with NVSwitches": (SWITCHES, journey),
    }
    if source == "nvidia":
        shapes |= {board: (shape, journey[-1:]) for board, shape in BOARDS.items()}
    lines: list[str] = []
    for number, (kind, (shape, versions)) in enumerate(shapes.items()):
        machine = Machine(tmp_path / str(number), folder, source, monkeypatch)
        lines += [kind, *travelled(machine, system, shape, versions), ""]
    path = GOLDEN / f"{system}-{source}.txt"
    if os.environ.get("REWRITE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text("\n".join(lines))
    assert "\n".join(lines) == path.read_text()
