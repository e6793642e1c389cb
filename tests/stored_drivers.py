"""A host with a store of drivers, whose package manager only keeps a list."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from rackhand.catalog import pinned_patterns
from rackhand.driver.verdict import Verdict
from rackhand.remote import (
    apt,
    apt_sets,
    command,
    dpkg,
    driver,
    driver_files,
    driver_journal,
    driver_repair,
    driver_store,
)
from rackhand.remote.exchange import Exchange, Outcome

LIMIT_S = 60
FAMILY = (*pinned_patterns(), *driver_files.MODULES)


class Store:
    """What is installed, what is stored, and which packages the simulated transactions moved."""

    def __init__(self, base: Path, patch: pytest.MonkeyPatch) -> None:
        self.base = base
        self.here: dict[str, str] = {}
        self.held: set[str] = set()
        self.simulated: list[Exchange] = []
        status = base / "status"
        base.mkdir()
        status.touch()
        patch.setattr(dpkg, "STATUS", status)
        patch.setattr(dpkg, "JOURNAL", base / "updates")
        patch.setattr(dpkg, "here", lambda: [self._package(*pair) for pair in self.here.items()])
        patch.setattr(command, "LOGS", base / "log")
        patch.setattr(command, "LOCK", base / "lock")
        patch.setattr(apt, "wait_for_lock", lambda *_: LIMIT_S)
        patch.setattr(driver_files, "place", lambda *_: None)
        patch.setattr(driver_repair, "unfinished", list)
        patch.setattr(apt_sets, "simulate", self._simulate)
        patch.setattr(apt_sets, "carry_out", self._carry_out)
        patch.setattr(apt_sets, "hold", self._hold)

    def keep(self, version: str, members: Mapping[str, str]) -> str:
        """Store a set and return its name."""
        folder = driver_store.draft(self.base)
        for name, entry in members.items():
            (folder / f"{name}_{entry}_amd64.deb").write_text(name + entry)
        content = {"version": version, "members": members, "beside": {}, "family": FAMILY, "holds": sorted(members)}
        around = {"pin": "", "source": "", "key": "", "services": []}
        return driver_store.keep(self.base, folder, {**content, **around})

    def deployed(self, name: str) -> None:
        """Have a stored set installed, on which a release serves."""
        driver_journal.begin(self.base, "r1", name)
        self.here = dict(driver_store.sets(self.base)[name]["members"])
        self.held = set(self.here)
        self.accept()

    def accept(self) -> None:
        """Let a release serve on what is installed."""
        driver_journal.healthy(self.base)

    def deploy(self, verdict: Verdict) -> dict[str, str]:
        """Stage what was decided and put it on, as a deploy does; nothing but the store has any packages."""
        assert verdict.plan is not None
        assert verdict.plan.packages is not None
        packages = verdict.plan.packages
        wish = {
            "repository_url": "", "key_url": "", "fingerprint": "", "packages": list(packages.install),
            "beside": list(packages.beside), "headers": list(verdict.plan.headers), "needs": list(verdict.plan.needs),
            "family": list(pinned_patterns()), "services": [], "version": verdict.plan.version,
        }  # fmt: skip
        staged: dict[str, str] = driver.stage(root=str(self.base), wish=wish, timeout_s=LIMIT_S)
        self.put(verdict.plan.version, *verdict.plan.needs)
        return staged

    def put(self, version: str, *packages: str) -> None:
        driver.put(root=str(self.base), run="r2", version=version, packages=list(packages), timeout_s=LIMIT_S)

    def _package(self, name: str, entry: str) -> dpkg.Package:
        return dpkg.Package(name, "amd64", "hold" if name in self.held else "install", "installed", "ok", entry)

    def _simulate(self, wish: Exchange, timeout_s: int) -> Outcome:
        self.simulated.append(wish)
        return Outcome({}, [])

    def _carry_out(self, wish: Exchange, timeout_s: int) -> None:
        for name in wish.gone:
            del self.here[name]
        self.here.update(file.name.split("_")[:2] for file in wish.files)

    def _hold(self, held: Mapping[str, str], freed: list[str], timeout_s: int) -> None:
        self.held = self.held - {*freed} | {*held}
