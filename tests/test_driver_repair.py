"""A dpkg that was cut off is put in order: real dpkg, on a root directory of its own."""

import subprocess
from pathlib import Path

import pytest

from rackhand.remote import apt, command, dpkg, driver_fetch, driver_repair, gpu
from rackhand.remote.problem import Problem

FAMILY = ("nvidia-*", "libcuda1")
CUT_OFF = ("half-installed", "reinstreq")


class Root:
    """A root directory with a dpkg of its own."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.archives = place / "var/cache/apt/archives"
        self.database = place / "var/lib/dpkg"
        for folder in (self.archives, self.database / "info", self.database / "updates"):
            folder.mkdir(parents=True)
        (self.database / "status").touch()

    def deb(self, name: str, version: str, fails: bool = False) -> Path:
        """Build a package into apt's archives; one that `fails` cannot be configured."""
        tree = self.place / "build" / name
        (tree / "DEBIAN").mkdir(parents=True, exist_ok=True)
        control = f"Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: x\nDescription: x\n"
        script = tree / "DEBIAN/postinst"
        script.unlink(missing_ok=True)
        if fails:
            script.write_text("#!/bin/sh\nexit 1\n")
            script.chmod(0o755)
        (tree / "DEBIAN/control").write_text(control)
        (tree / f"{name}-{version}").write_text(version)
        done = self.archives / f"{name}_{version}_all.deb"
        subprocess.run(["dpkg-deb", "--root-owner-group", "-b", tree, done], check=True, capture_output=True)
        (tree / f"{name}-{version}").unlink()
        return done

    def install(self, *debs: Path) -> None:
        subprocess.run(["dpkg", "--install", *debs], check=True, capture_output=True)

    def becomes(self, name: str, status: str, flag: str = "ok", journal: bool = False) -> None:
        """Leave a package as dpkg does when it is cut off there, in its database or only in its journal."""
        text = (self.database / "status").read_text()
        stanza = next(each for each in text.split("\n\n") if each.startswith(f"Package: {name}\n"))
        changed = stanza.replace("Status: install ok installed", f"Status: install {flag} {status}")
        if journal:
            (self.database / "updates/0000").write_text(changed + "\n\n")
        else:
            (self.database / "status").write_text(text.replace(stanza, changed))

    def states(self) -> dict[str, str]:
        return {each.name: f"{each.status} {each.version}" for each in dpkg.here()}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Root:
    """Return a root directory in which dpkg works; apt may not be asked for anything."""
    found = Root(tmp_path / "root")
    monkeypatch.setenv("DPKG_ROOT", str(found.place))
    monkeypatch.setenv("DPKG_FORCE", "not-root,script-chrootless,bad-path")
    monkeypatch.setattr(dpkg, "JOURNAL", found.database / "updates")
    monkeypatch.setattr(driver_repair, "ARCHIVES", found.archives)
    monkeypatch.setattr(command, "LOGS", tmp_path / "log")

    def no_apt(arguments: list[str], *_: object) -> None:
        command.say(driver_repair.LOG, "E: apt could do nothing")

    monkeypatch.setattr(apt, "get", no_apt)
    return found


def test_a_host_in_order_is_left_alone(root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    root.install(root.deb("nvidia-a", "1"), root.deb("other", "1"))
    monkeypatch.setattr(command, "run", None)
    driver_repair.finish(60)
    driver_repair.mend(FAMILY, driver_repair.archived)
    driver_repair.foreign(FAMILY, 60)
    assert root.states() == {"nvidia-a": "installed 1", "other": "installed 1"}


@pytest.mark.parametrize("status", ["half-configured", "unpacked"])
def test_what_dpkg_had_only_in_its_journal_is_finished(root: Root, status: str) -> None:
    root.install(root.deb("nvidia-a", "1"))
    root.becomes("nvidia-a", status, journal=True)
    assert dpkg.interrupted()
    assert gpu.packages(list(FAMILY))["unfinished"] == ["nvidia-a"]
    driver_repair.finish(60)
    assert not dpkg.interrupted()
    assert root.states() == {"nvidia-a": "installed 1"}
    assert gpu.packages(list(FAMILY)) == {"installed": {"nvidia-a": "1"}, "held": [], "unfinished": []}


def test_a_package_that_was_cut_off_while_it_was_unpacked_is_unpacked_again(root: Root) -> None:
    root.install(root.deb("nvidia-a", "1"))
    root.deb("nvidia-a", "2")
    root.becomes("nvidia-a", *CUT_OFF)
    driver_repair.finish(60)
    assert root.states() == {"nvidia-a": "installed 2"}


def test_before_a_transaction_a_drivers_package_without_its_file_goes_altogether(root: Root) -> None:
    root.install(root.deb("nvidia-a", "1"), root.deb("nvidia-b", "1"))
    root.becomes("nvidia-a", *CUT_OFF)
    driver_repair.mend(FAMILY, lambda name: driver_repair.archived(name, "2"))
    assert root.states() == {"nvidia-b": "installed 1"}


def test_before_a_reboot_nothing_goes_and_the_package_is_named(root: Root) -> None:
    deb = root.deb("nvidia-a", "1")
    root.install(deb)
    deb.unlink()
    root.becomes("nvidia-a", *CUT_OFF)
    with pytest.raises(Problem) as caught:
        driver_repair.finish(60)
    assert caught.value.code == "dpkg-unfinished"
    assert caught.value.what.endswith(": nvidia-a")


def test_before_a_transaction_others_packages_are_only_configured(root: Root) -> None:
    root.install(root.deb("other", "1"), root.deb("libcuda1", "1"))
    root.becomes("other", "unpacked")
    root.becomes("libcuda1", *CUT_OFF)
    driver_repair.mend(FAMILY, driver_repair.archived)
    driver_repair.foreign(FAMILY, 60)
    assert root.states() == {"other": "installed 1", "libcuda1": "installed 1"}


def test_others_packages_that_cannot_be_configured_are_named(root: Root) -> None:
    root.install(root.deb("nvidia-a", "1"))
    subprocess.run(["dpkg", "--unpack", root.deb("other", "1", fails=True)], check=True, capture_output=True)
    assert root.states()["other"] == "unpacked 1"
    with pytest.raises(Problem) as caught:
        driver_repair.foreign(FAMILY, 60)
    assert caught.value.code == "dpkg-unfinished"
    assert caught.value.what.endswith(": other")
    assert any("other" in line for line in caught.value.evidence)


def test_they_are_named_before_a_server_is_stopped_for_the_driver(
    root: Root, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apt, "wait_for_lock", lambda *_: 60)
    subprocess.run(["dpkg", "--unpack", root.deb("other", "1", fails=True)], check=True, capture_output=True)
    with pytest.raises(Problem) as caught:
        driver_fetch.stage(tmp_path / "base", {"family": FAMILY}, 60)
    assert caught.value.what.endswith(": other")


def test_nothing_is_configured_beside_a_server_where_the_driver_is_unfinished(root: Root) -> None:
    root.install(root.deb("nvidia-a", "1"), root.deb("other", "1"))
    for name in ("nvidia-a", "other"):
        root.becomes(name, "half-configured")
    driver_repair.foreign_alone(FAMILY, 60)
    assert root.states() == {"nvidia-a": "half-configured 1", "other": "half-configured 1"}
