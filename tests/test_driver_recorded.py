"""Hosts of Ubuntu as others recorded them: read as we read any host, and judged."""

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from rackhand.driver.ground import Ground
from rackhand.driver.verdict import Verdict
from rackhand.remote import driver_facts
from tests.driver_hosts import decided, host

RECORDS = Path(__file__).parent / "fixtures" / "driver_hosts"
DESKTOP, AHEAD, KEYRING = "noble-desktop-set", "noble-kernel-ahead", "noble-cuda-keyring"
STANZA = "Package: {}\nStatus: install ok installed\nVersion: {}\nArchitecture: amd64\n{}Description: x\n"
APT_CACHE = "#!/bin/sh\ncase $* in *pkgnames*) printf '%s\\n' {} ;; esac\n"


class Recorded:
    """One host, built again from what was recorded of it."""

    def __init__(self, name: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.record: dict[str, Any] = yaml.safe_load((RECORDS / f"{name}.yaml").read_text())
        files = {"var/lib/dpkg/status": self._status(), "var/lib/apt/lists/mirror_Packages": "", **self.record["files"]}
        files |= {f"boot/vmlinuz-{release}": "" for release in self.record["boot"]}
        for path, text in files.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text)
        (root / "var/lib/dpkg/updates").mkdir()
        tool = root / "bin/apt-cache"
        tool.parent.mkdir()
        tool.write_text(APT_CACHE.format(" ".join(self.record["offered"])))
        tool.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tool.parent}:{os.environ['PATH']}")
        self.facts = driver_facts.facts(False, str(root), self.record["running"])
        self.ground = Ground.model_validate(self.facts)

    def _status(self) -> str:
        needs = {name: f"Depends: {text}\n" for name, text in self.record.get("depends", {}).items()}
        rows = self.record["packages"].items()
        return "\n".join(STANZA.format(name, version, needs.get(name, "")) for name, version in rows)

    def judged(self, loaded: str | None = None, **wished: Any) -> Verdict:
        """Return the verdict on this host, on a roomy disk."""
        here = {name: value for name, value in self.facts.items() if name not in ("packages", "places")}
        system = f"ubuntu-{self.record['version']}"
        return decided(host(system, installed=self.ground.packages, loaded=loaded, **here), **wished)


@pytest.fixture
def recorded(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recorded:
    return Recorded(request.param, tmp_path, monkeypatch)


@pytest.mark.parametrize("recorded", [DESKTOP], indirect=True)
def test_a_set_for_screens_is_of_the_distribution_and_makes_way_for_the_servers_whole(recorded: Recorded) -> None:
    (kernel,) = recorded.ground.kernels
    assert (kernel.meta, kernel.package) == ("linux-image-generic-hwe-24.04", True)
    assert not {"cuda-nvtx-13-1", "libnvidia-egl-wayland1", "nsight-compute-2025.4.0"} & set(recorded.ground.packages)
    (problem,) = recorded.judged(loaded="580.95.05").problems
    assert problem.code == "driver-origin"
    assert "set driver_source = 'distribution'" in problem.next_step
    stays = recorded.judged(loaded="580.95.05", driver_source="distribution")
    assert stays.problems == ()
    assert stays.plan is not None
    kept = {"nvidia-prime"}
    assert {*stays.plan.removes} == {*recorded.ground.packages} - kept
    assert stays.plan.version == "580.95.05"


@pytest.mark.parametrize("recorded", [AHEAD], indirect=True)
def test_a_kernel_that_is_ahead_of_its_modules_is_seen_before_it_boots(recorded: Recorded) -> None:
    running, coming = recorded.ground.kernels
    assert (running.release, coming.release) == ("6.17.0-1014-nvidia", "6.17.0-1018-nvidia")
    assert (running.next, coming.next, coming.meta) == (False, True, "linux-image-nvidia-hwe-24.04")
    wished = {"driver_source": "distribution", "driver_version": "580.178.04"}
    (problem,) = recorded.judged(loaded="580.126.09", **wished).problems
    assert problem.code == "kernel-module"
    assert "linux-modules-nvidia-580-server-open-6.17.0-1018-nvidia" in problem.what
    stays = recorded.judged(loaded="580.126.09", driver_source="distribution")
    assert stays.problems == ()
    assert stays.plan is not None
    (warning,) = stays.plan.warnings
    assert "the kernel 6.17.0-1018-nvidia boots next and has no nvidia module" in warning
    assert "linux-modules-nvidia-580-server-open-6.17.0-1018-nvidia is neither installed nor on offer" in warning


@pytest.mark.parametrize("recorded", [KEYRING], indirect=True)
def test_nvidias_own_entry_of_its_repository_stands_in_the_way_of_ours_and_its_pins_do_not(recorded: Recorded) -> None:
    (kernel,) = recorded.ground.kernels
    assert (kernel.headers, kernel.meta) == (True, "linux-image-generic")
    assert {(source.file, source.suite) for source in recorded.ground.sources} == {
        *(("/etc/apt/sources.list.d/ubuntu.sources", f"noble{part}") for part in ("", "-updates", "-backports")),
        ("/etc/apt/sources.list.d/ubuntu.sources", "noble-security"),
        ("/etc/apt/sources.list.d/cuda-ubuntu2404-x86_64.list", "/"),
    }
    (problem,) = recorded.judged().problems
    assert problem.code == "repository-conflict"
    assert "/etc/apt/sources.list.d/cuda-ubuntu2404-x86_64.list" in problem.next_step
    assert recorded.judged(driver_source="distribution").problems == ()


def test_every_record_names_where_it_was_recorded() -> None:
    assert {path.stem for path in RECORDS.iterdir()} == {DESKTOP, AHEAD, KEYRING}
    assert all(yaml.safe_load(path.read_text())["source"] for path in RECORDS.iterdir())
