"""The parts of the practice fleet that need neither root nor a network."""

import contextlib
import hashlib
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rackhand.errors import RackhandError
from rackhand.lab import image, lock, network, places, processes, require, reservations, server, shell
from rackhand.lab.fleet import Fleet
from rackhand.lab.places import Places
from rackhand.lab.reservations import Reservations

NAMES = st.text(alphabet="abcdefghijklmnopqrstuvwxyz0123456789-", min_size=1, max_size=20)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RACKHAND_LAB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@given(st.lists(NAMES, unique=True, max_size=60))
def test_every_host_has_an_address_of_its_own(names: list[str]) -> None:
    held = Reservations(prefix="10.200.0", numbers={})
    for name in names:
        held = held.with_host(name)
    assert len(set(held.numbers.values())) == len(names)
    assert all(10 <= number <= 250 for number in held.numbers.values())


@given(NAMES, NAMES)
def test_a_reserved_address_stays(first: str, second: str) -> None:
    held = Reservations(prefix="10.200.0", numbers={}).with_host(first)
    assert held.with_host(second).numbers[first] == held.numbers[first]


def test_a_full_subnet_is_said() -> None:
    full = Reservations(prefix="10.200.0", numbers={str(number): number for number in range(10, 251)})
    with pytest.raises(RackhandError, match=r"all 241 addresses are taken \[lab.full\]"):
        full.with_host("one-more")


def test_reservations_cut_short_by_a_crash_count_as_none(tmp_path: Path) -> None:
    (tmp_path / "reservations.json").write_text('{"prefix": ')
    assert reservations.read(Places.at(tmp_path)) is None


def test_two_checkouts_have_names_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RACKHAND_LAB_DIR", raising=False)
    one, two = Places.of(tmp_path / "one"), Places.of(tmp_path / "two")
    assert one.root.name == hashlib.sha256(str(tmp_path / "one").encode()).hexdigest()[:8]
    assert {one.root, one.bridge, one.table, one.lock}.isdisjoint({two.root, two.bridge, two.table, two.lock})


def test_the_state_can_be_kept_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RACKHAND_LAB_DIR", str(tmp_path))
    assert Places.of(Path("/any")) == Places.at(tmp_path)


def test_names_of_links_fit_the_kernel(tmp_path: Path) -> None:
    fleet = Places.at(tmp_path)
    assert len(fleet.bridge) <= 15
    assert len(f"vb-{fleet.machine(250)}") <= 15


def test_removing_a_fleet_spares_what_somebody_else_keeps_there(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    fleet = Places.at(tmp_path)
    fleet.make()
    (fleet.hosts / "one/upper").mkdir(parents=True)
    fleet.remove()
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_removing_a_fleet_removes_a_directory_of_its_own_whole(tmp_path: Path) -> None:
    fleet = Places.at(tmp_path / "lab")
    fleet.make()
    (fleet.root / "models/tiny").mkdir(parents=True)
    fleet.remove()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["", "-one", "One", "a b", "a/b", "..", "x" * 41])
def test_a_host_name_that_is_none_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(RackhandError, match=r"is no host name \[lab.name\]"):
        Fleet.at(tmp_path).reserve(name)


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr("shutil.which", lambda *_arguments, **_options: None)
    with pytest.raises(
        RackhandError, match=r"missing no-such-tool, no-such-file .*apt-get install no-such-tool no-such"
    ):
        require.ensure({"no-such-tool": "no-such-tool", "no-such-file": "/no/such/file"})


def test_a_person_who_is_not_root_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(RackhandError, match="run this as root"):
        require.ensure()


def test_a_lock_is_held_by_one_at_a_time(tmp_path: Path) -> None:
    with (
        lock.exclusive(tmp_path / "lock", 1),
        pytest.raises(RackhandError, match=r"lab\.busy"),
        lock.exclusive(tmp_path / "lock", 0.1),
    ):
        pytest.fail("two hold the lock")
    with lock.exclusive(tmp_path / "lock", 0.1):
        pass


def test_waiting_for_a_lock_lets_its_holder_go_on(tmp_path: Path) -> None:
    taken, released = threading.Event(), []

    def hold() -> None:
        with lock.exclusive(tmp_path / "lock", 1):
            taken.set()
            time.sleep(0.2)
            released.append(time.monotonic())

    holder = threading.Thread(target=hold)
    holder.start()
    taken.wait(2)
    with lock.exclusive(tmp_path / "lock", 5):
        assert released
    holder.join()


def test_a_command_that_fails_is_quoted() -> None:
    with pytest.raises(RackhandError, match="exit status 3: an error: no") as caught:
        shell.run(["sh", "-c", "echo an error: no >&2; echo more >&2; exit 3"])
    assert caught.value.evidence == ("an error: no", "more")


def test_a_missing_program_is_a_failure_not_a_traceback() -> None:
    assert shell.attempt(["no-such-program"]).returncode == 127


def test_a_command_that_hangs_is_ended() -> None:
    done = shell.attempt(["sleep", "60"], timeout_s=0.1)
    assert (done.returncode, done.stderr) == (124, "sleep: killed after 0 s")


def test_a_detached_process_is_found_by_its_arguments_and_ended(tmp_path: Path) -> None:
    mark = f"--directory={tmp_path}/"
    shell.detach(["sh", "-c", "while :; do sleep 0.1; done", "lab", mark], tmp_path / "log")
    assert processes.with_argument(mark) != []
    processes.end(lambda: processes.with_argument(mark))
    assert processes.with_argument(mark) == []


def test_candidates_for_a_subnet_are_all_different_and_private() -> None:
    candidates = network._candidates("ffffffff")
    assert len(set(candidates)) == 20 * 256
    assert {int(candidate.split(".")[1]) for candidate in candidates} == set(range(200, 220))


DEB822 = """\
# a comment
Types: deb
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
"""


@pytest.mark.parametrize(
    ("entry", "taken"),
    [
        (DEB822, True),
        (DEB822.replace("debian-archive-keyring", "vendor"), False),
        (DEB822.replace("bookworm bookworm-updates", "trixie"), False),
        ("deb http://mirror.example/debian bookworm main contrib", True),
        ("deb http://mirror.example/debian bookworm-updates main", True),
        ("deb-src http://mirror.example/debian bookworm main", False),
        ("deb [signed-by=/etc/apt/keyrings/vendor.asc] https://vendor.example/linux bookworm stable", False),
        ("deb http://mirror.example/debian bookworm-backports main", False),
    ],
)
def test_only_the_distribution_itself_is_taken_from_the_outer_sources(entry: str, taken: bool) -> None:
    assert image._is_distribution(entry, "bookworm") is taken


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Places]:
    fleet = Places.at(tmp_path)
    fleet.www.mkdir()
    monkeypatch.setattr(network, "HTTP_PORT", 0)
    yield fleet
    processes.end(lambda: server.find(fleet))


def test_the_server_serves_outlives_its_starter_and_starts_once(served: Places) -> None:
    (served.www / "file").write_bytes(bytes(range(256)) * 4096)
    server.ensure(served, "127.0.0.1")
    server.ensure(served, "127.0.0.1")
    (pid,) = server.find(served)
    url = f"http://127.0.0.1:{_port_of(pid)}"
    with urllib.request.urlopen(f"{url}/file", timeout=5) as reply:
        assert reply.read() == bytes(range(256)) * 4096
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(f"{url}/../../etc/passwd", timeout=5)


def _port_of(pid: int) -> int:
    sockets = set()
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # a server that only just began still closes files
            sockets.add(path.readlink().name)
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return next(int(line[1].split(":")[1], 16) for line in lines if f"socket:[{line[9]}]" in sockets)


def test_the_caches_of_all_checkouts_are_in_one_place(cache: Path) -> None:
    assert places.cache() == cache
    assert places.locks().parent == cache
