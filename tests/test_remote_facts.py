"""What a host is asked about itself is answered on this machine as well, and absence is said as such."""

import contextlib
import fcntl
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rackhand import payload, survey
from rackhand.remote import gpu, host, state
from rackhand.remote import survey as remote
from tests.surveys import VENV

HOLD = """
import fcntl, sys
lock = open(sys.argv[1], "r+")
fcntl.lockf(lock, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def held(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Let another process hold a lock as dpkg does."""
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


def test_the_whole_survey_of_this_machine_makes_sense(tmp_path: Path) -> None:
    answer = remote.survey(
        root=str(tmp_path / "not" / "there"),
        ports=[1],
        packages=["no-such-package"],
        venv=VENV,
        model="m",
        uv="u",
        user="root",
        nvml_payload=payload.nvml_probe(),
        loader=payload.LOADER,
        services=["no-such-service"],
    )
    found = survey.parse(answer, "here")
    assert found.host.boot_id
    assert found.resources.disk_free_mib > 0
    assert found.resources.memory_mib > 0
    assert found.state.user
    assert found.state.releases == {}
    assert found.nvml.state
    assert all(node.cpus and node.memory_mib for node in found.nodes)
    assert not (tmp_path / "not").exists()


def test_a_listener_is_named_with_its_process() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
        assert host.listeners([port]) == []
        server.listen()
        (found,) = host.listeners([port])
    assert (found["port"], found["pid"]) == (port, os.getpid())
    assert found["command"] == Path("/proc/self/comm").read_text().strip()


def test_the_holder_of_apts_lock_is_named_without_taking_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = tmp_path / "lock"
    lock.touch()
    monkeypatch.setattr(host, "APT_LOCKS", (str(tmp_path / "absent"), str(lock)))
    assert host.apt_lock_holder() is None
    with held(lock) as process:
        found = host.apt_lock_holder()
        assert found is not None
        assert (found["path"], found["pid"]) == (str(lock), process.pid)
    assert host.apt_lock_holder() is None
    with lock.open("r+") as free:
        fcntl.lockf(free, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_process_that_is_gone_has_no_name() -> None:
    assert host.process(2**22 + 1) == {"pid": 2**22 + 1, "command": "", "unit": ""}


@pytest.mark.parametrize(
    ("program", "state"),
    [
        ("import sys; sys.exit(3)", "crashed"),
        ("import os; os.kill(os.getpid(), 11)", "crashed"),
        ("print('no json')", "crashed"),
    ],
)
def test_a_probe_that_crashes_inside_the_library_is_an_answer(program: str, state: str) -> None:
    answer = gpu.nvml(program, "")
    assert (answer["state"], answer["gpus"]) == (state, [])
    assert answer["detail"]


def test_a_probe_that_hangs_is_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(*_: object, **__: object) -> None:
        raise subprocess.TimeoutExpired("python3", 60)

    monkeypatch.setattr(subprocess, "run", hang)
    assert gpu.nvml("", "")["state"] == "hangs"


def test_nodes_without_cpus_are_memory_alone_and_left_out(tmp_path: Path) -> None:
    for name, cpus, memory in (("node0", "0-31,64-95", 1 << 20), ("node10", "32-63", 2 << 20), ("node2", "", 1 << 20)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "cpulist").write_text(f"{cpus}\n")
        (tmp_path / name / "meminfo").write_text(f"Node 0 MemTotal:       {memory} kB\n")
    assert gpu.nodes(str(tmp_path)) == [
        {"node": 0, "cpus": "0-31,64-95", "memory_mib": 1024},
        {"node": 10, "cpus": "32-63", "memory_mib": 2048},
    ]
    assert gpu.nodes(str(tmp_path / "none")) == []


def test_a_unit_starts_at_boot_when_its_link_is_there_whatever_systemd_remembers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A `disable --no-reload` leaves UnitFileState=enabled in a unit that is still loaded."""
    monkeypatch.setattr(state, "WANTS", tmp_path)
    monkeypatch.setattr(state, "_run", lambda _: "LoadState=loaded\nUnitFileState=enabled\n")
    assert state.unit("vllm@tiny-1.service")["enabled"] is False
    (tmp_path / "vllm@tiny-1.service").symlink_to("/unit")
    assert state.unit("vllm@tiny-1.service")["enabled"] is True


def test_a_driver_that_is_not_from_packages_has_its_library_where_the_linker_finds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / gpu.LIBRARY
    (tmp_path / "libnvidia-ml.so.580.159.04").touch()
    place.symlink_to("libnvidia-ml.so.580.159.04")
    listing = (
        f"\t{gpu.LIBRARY} (libc6) => /usr/lib/i386-linux-gnu/{gpu.LIBRARY}\n\t{gpu.LIBRARY} (libc6,x86-64) => {place}\n"
    )
    monkeypatch.setattr(gpu, "FOLDERS", ())
    monkeypatch.setattr(subprocess, "run", lambda argv, **_: subprocess.CompletedProcess(argv, 0, listing, ""))
    assert gpu.driver()["library"] == "580.159.04"
