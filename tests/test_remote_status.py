"""How a host says that it stands: unit files, reboots and states are read as they are, and nothing is written."""

from pathlib import Path

import pytest

from rackhand.remote import state, status
from tests.shelves import MADE, Laid, Shelf, digest, write


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shelf:
    """Return a root beside places of its own for systemd, kernels and states."""
    monkeypatch.setattr(state, "UNIT", tmp_path / "systemd/vllm@.service")
    monkeypatch.setattr(status, "STATES", tmp_path / "run")
    monkeypatch.setattr(status, "REBOOT", tmp_path / "run/reboot-required")
    monkeypatch.setattr(status, "MODULES", tmp_path / "modules")
    return Shelf(root=tmp_path / "rackhand", proc=tmp_path / "proc")


def kernels(tmp_path: Path, running: str, *names: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status.os, "uname", lambda: type("Uname", (), {"release": running}))
    for name in names:
        write(tmp_path / "modules" / name / "modules.dep", "")


def test_the_current_release_is_told_with_the_one_before(host: Shelf) -> None:
    host.lay(Laid(number=1), Laid(number=2, at=5))
    host.link("current", digest("a", 2))
    host.link("previous", digest("a", 1))
    found = status._release(host.root)
    assert found is not None
    assert (found["id"], found["previous"], found["when"]) == (digest("a", 2), digest("a", 1), MADE + 5)
    assert found["since"] > MADE


@pytest.mark.parametrize("text", ["{", '{"instances": 5}', '{"instances": [{}]}'])
def test_a_release_that_makes_no_sense_is_none(host: Shelf, text: str) -> None:
    assert status._release(host.root) is None
    host.lay(Laid(number=1))
    host.link("current", digest("a", 1))
    write(host.root / "current/manifest.json", text)
    assert status._release(host.root) is None


def test_unit_files_are_held_against_those_of_the_release(host: Shelf, tmp_path: Path) -> None:
    host.lay(Laid(number=1))
    host.link("current", digest("a", 1))
    current = host.root / "current"
    drop_in, systemd = "vllm@tiny-0.service.d/rackhand.conf", tmp_path / "systemd"
    write(current / drop_in, "[Service]\n")
    assert status._unit_files(current) == ["vllm@.service", drop_in]
    for name in ("vllm@.service", drop_in):
        write(systemd / name, (current / name).read_text())
    assert status._unit_files(current) == []
    write(systemd / "vllm@old-0.service.d/rackhand.conf", "[Service]\n")
    write(systemd / drop_in, "[Service]\nNice=5\n")
    assert status._unit_files(current) == ["vllm@old-0.service.d/rackhand.conf", drop_in]


def test_an_instance_is_ready_unless_somebody_wrote_something_else(host: Shelf, tmp_path: Path) -> None:
    assert status._state("tiny-0") == "ready"
    write(tmp_path / "run/tiny-0.state", "drain\n")
    assert status._state("tiny-0") == "drain"


@pytest.mark.parametrize(
    ("running", "installed", "newer"),
    [
        ("6.1.0-9-amd64", ("6.1.0-9-amd64", "6.1.0-21-amd64"), "6.1.0-21-amd64"),
        ("6.1.0-21-amd64", ("6.1.0-9-amd64", "6.1.0-21-amd64"), ""),
        # A container has the kernel of the machine around it, which is none of those installed in it.
        ("6.8.0-host", ("6.1.0-9-amd64", "6.1.0-21-amd64"), ""),
        ("6.8.0-host", (), ""),
    ],
)
def test_a_newer_kernel_is_found_in_the_order_of_people(
    host: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, running: str, installed: tuple[str, ...], newer: str
) -> None:
    kernels(tmp_path, running, *installed, monkeypatch=monkeypatch)
    assert status.reboot()["kernel"] == newer


def test_a_newer_kernel_tells_whether_it_has_a_module_of_the_driver(
    host: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernels(tmp_path, "6.1.0-9-amd64", "6.1.0-9-amd64", "6.1.0-21-amd64", monkeypatch=monkeypatch)
    assert (status.reboot()["module"], status.reboot()["headers"]) == (False, False)
    write(tmp_path / "modules/6.1.0-21-amd64/updates/dkms/nvidia.ko.xz", "")
    write(tmp_path / "modules/6.1.0-21-amd64/build/Makefile", "")
    assert (status.reboot()["module"], status.reboot()["headers"]) == (True, True)


def test_what_the_distribution_asks_for_is_told_with_the_packages(host: Shelf, tmp_path: Path) -> None:
    none = {"kernel": "", "module": None, "headers": None}
    assert status.reboot() == {"required": False, "packages": [], **none}
    write(tmp_path / "run/reboot-required", "*** System restart required ***\n")
    write(tmp_path / "run/reboot-required.pkgs", "linux-base\nlibc6\nlinux-base\n")
    assert status.reboot() == {"required": True, "packages": ["libc6", "linux-base"], **none}
