"""What lies on the shelf is described truly, and nothing that anybody may still need is thrown away."""

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rackhand.remote import command, references, shelf
from tests.shelves import MADE, Laid, Shelf, digest, write

KEEP = 3
DAY_S = 86_400


@contextmanager
def laid() -> Iterator[Shelf]:
    """Yield an empty shelf, with a /proc and a lock of its own."""
    with tempfile.TemporaryDirectory() as place, pytest.MonkeyPatch.context() as patch:
        here = Path(place)
        patch.setattr(references, "PROC", here / "proc")
        patch.setattr(command, "LOCK", here / "lock")
        patch.setattr(command, "LOGS", here / "log")
        yield Shelf(root=here / "rackhand", proc=here / "proc")


@pytest.fixture
def host() -> Iterator[Shelf]:
    with laid() as found:
        yield found


def collected(host: Shelf, keep: int = KEEP) -> dict[str, Any]:
    return shelf.collect(str(host.root), keep)


def upgraded(host: Shelf, count: int) -> None:
    """Lay down releases as upgrades leave them: each with an environment and weights of its own."""
    host.lay(*(Laid(number=number, venv=number, model=number, at=number) for number in range(count)))
    host.link("current", digest("a", count - 1))
    host.link("previous", digest("a", count - 2))


def test_a_release_is_described_with_its_verdict_and_what_it_needs(host: Shelf) -> None:
    host.lay(Laid(number=1, venv=1, at=60))
    (found,) = shelf.records(str(host.root))
    assert found["id"] == digest("a", 1)
    assert (found["engine_version"], found["served_name"], found["host"]) == ("0.32.0", "tiny", "0.0.0.0")
    assert (found["verdict"], found["when"], found["start_s"]) == ("passed", MADE + 60, {"tiny-0": 9.5})
    assert (found["model_revision"], found["missing"]) == ("a" * 40, "")
    assert found["instances"][0]["max_model_len"] == 256


def test_a_release_of_an_older_rackhand_is_described_with_defaults(host: Shelf) -> None:
    host.lay(Laid(number=1, schema=1, verdict=""))
    (found,) = shelf.records(str(host.root))
    assert (found["host"], found["start_timeout_s"], found["request_timeout_s"]) == ("127.0.0.1", 900, 60)
    assert (found["verdict"], found["when"], found["start_s"]) == ("", MADE + 1, {})
    assert found["model_revision"] == digest("d", 0)
    assert found["instances"][0]["max_model_len"] is None


@pytest.mark.parametrize(
    ("lost", "said"),
    [
        ("venvs/{venv}/rackhand.json", "its environment"),
        ("models/{model}/model.safetensors", "its weights"),
        ("releases/{id}/vllm@.service", "its unit"),
    ],
)
def test_a_release_says_what_it_lacks(host: Shelf, lost: str, said: str) -> None:
    release = Laid(number=1)
    host.lay(release)
    (host.root / lost.format(id=release.id, venv=release.venv_name, model=release.model_name)).unlink()
    assert [found["missing"] for found in shelf.records(str(host.root))] == [said]


@pytest.mark.parametrize("text", ["{", "[]", '{"instances": 5}', '{"instances": [{"name": "x"}]}', "{}"])
def test_a_manifest_that_makes_no_sense_is_no_release_and_no_crash(host: Shelf, text: str) -> None:
    host.lay(Laid(number=1), Laid(number=2))
    write(host.root / "releases" / digest("a", 1) / "manifest.json", text)
    assert [found["id"] for found in shelf.records(str(host.root))] == [digest("a", 2)]


def test_a_host_without_anything_has_no_records_and_nothing_to_throw_away(host: Shelf) -> None:
    assert shelf.records(str(host.root)) == []
    assert collected(host) == {"releases": [], "venvs": [], "models": [], "driver": [], "mib": 0}


def test_the_newest_stay_and_the_rest_goes_with_what_only_it_needed(host: Shelf) -> None:
    upgraded(host, 5)
    write(host.root / "venvs" / digest("e", 0) / "lib/cuda.so", "x" * (3 << 20))
    assert collected(host) == {
        "releases": [digest("a", 0), digest("a", 1)],
        "venvs": [digest("e", 0), digest("e", 1)],
        "models": [f"tiny@{digest('d', 0)}", f"tiny@{digest('d', 1)}"],
        "driver": [],
        "mib": 3,
    }
    assert host.there("cache") == {digest("e", number) for number in (2, 3, 4)}
    assert host.there("venvs") == {f"{digest('e', number)}{end}" for number in (2, 3, 4) for end in ("", ".txt")}
    assert collected(host) == {"releases": [], "venvs": [], "models": [], "driver": [], "mib": 0}


def test_weights_and_environments_that_releases_share_stay_with_the_last_of_them(host: Shelf) -> None:
    host.lay(*(Laid(number=number, at=number) for number in range(5)))
    host.link("current", digest("a", 4))
    gone = collected(host)
    assert gone["releases"] == [digest("a", 0), digest("a", 1)]
    assert (gone["venvs"], gone["models"]) == ([], [])


def test_releases_that_failed_or_never_ran_go_before_those_that_passed(host: Shelf) -> None:
    host.lay(Laid(number=1, at=1), Laid(number=2, at=9, verdict="failed"), Laid(number=3, verdict=""), Laid(number=4))
    host.link("current", digest("a", 4))
    assert collected(host, 2)["releases"] == [digest("a", 2), digest("a", 3)]


def test_a_release_that_an_open_order_names_stays_however_old(host: Shelf) -> None:
    upgraded(host, 6)
    host.order(to=digest("a", 0), back=digest("a", 1))
    assert collected(host)["releases"] == [digest("a", 2), digest("a", 3)]
    write(host.root / "turn/order.json", f'{{"to": "{digest("a", 0)}", "ba')
    assert collected(host)["releases"] == [digest("a", 1)]


def test_an_old_release_stays_as_long_as_a_process_runs_with_it(host: Shelf) -> None:
    upgraded(host, 6)
    host.runs(4711, digest("c", 0), digest("e", 0))
    assert digest("a", 0) not in collected(host)["releases"]
    assert {digest("a", 0), digest("a", 5)} <= host.there("releases")
    assert {digest("e", 0), digest("e", 5)} <= host.there("venvs")


def test_a_configuration_that_newer_releases_share_keeps_no_old_ones(host: Shelf) -> None:
    host.lay(*(Laid(number=number, at=number, config=7) for number in range(6)))
    host.link("current", digest("a", 5))
    host.runs(4711, digest("c", 7))
    assert collected(host)["releases"] == [digest("a", number) for number in range(3)]


def test_a_configuration_that_the_current_release_has_keeps_no_newer_one_after_a_rollback(host: Shelf) -> None:
    host.lay(*(Laid(number=number, at=number, config=7) for number in range(4)))
    host.link("current", digest("a", 0))
    host.link("previous", digest("a", 1))
    host.runs(4711, digest("c", 7))
    assert collected(host, 2)["releases"] == [digest("a", 2), digest("a", 3)]


def test_nothing_goes_that_a_damaged_release_might_need(host: Shelf) -> None:
    upgraded(host, 5)
    host.lay(Laid(number=9, readable=False, links=False))
    host.link("current", digest("a", 9))
    gone = collected(host)
    assert (len(gone["releases"]), gone["venvs"], gone["models"]) == (3, [], [])


def test_weights_stay_while_a_process_runs_whose_release_nobody_has(host: Shelf) -> None:
    upgraded(host, 6)
    host.runs(4711, "ffffffffffff")
    gone = collected(host)
    assert len(gone["releases"]) == 3
    assert gone["models"] == []


def test_what_a_process_has_mapped_stays(host: Shelf) -> None:
    upgraded(host, 6)
    library = f"{host.root}/venvs/{digest('e', 0)}/lib/torch.so"
    host.runs(4711, digest("c", 5), maps=(library, f"{host.root}/models/tiny@{digest('d', 1)}/model.safetensors"))
    gone = collected(host)
    assert (digest("e", 0) in gone["venvs"], f"tiny@{digest('d', 1)}" in gone["models"]) == (False, False)
    assert len(gone["venvs"]) == 2


def sets(host: Shelf, *versions: str) -> list[str]:
    """Store a set of driver packages for each version, and return their names."""
    names = [f"{version}-{digest('b', number)}" for number, version in enumerate(versions)]
    for name in names:
        write(host.root / "driver" / name / "set.json", "{}")
    return names


def test_driver_packages_stay_for_the_present_the_one_before_and_the_releases_that_are_kept(host: Shelf) -> None:
    host.lay(Laid(number=1, at=1, driver="575.1.1"), *(Laid(number=n, at=n, driver=f"580.{n}.1") for n in (2, 3, 4)))
    host.link("current", digest("a", 4))
    oldest, kept, before, present, failed = sets(host, "575.1.1", "580.2.1", "580.3.9", "580.4.1", "595.1.1")
    change = {"from": before, "to": present, "previous": "", "phase": "healthy"}
    write(host.root / "driver/change.json", json.dumps(change))
    assert collected(host)["driver"] == sorted([oldest, failed])
    assert host.there("driver") == {kept, before, present, "change.json"}


@pytest.mark.parametrize("change", ["", "{"])
def test_driver_packages_stay_where_nobody_knows_what_the_driver_came_from(host: Shelf, change: str) -> None:
    upgraded(host, 5)
    names = sets(host, "575.1.1", "580.126.20")
    write(host.root / "driver/change.json", change)
    assert collected(host)["driver"] == []
    assert set(names) <= host.there("driver")


def test_driver_packages_stay_that_a_damaged_release_might_need(host: Shelf) -> None:
    host.lay(Laid(number=1, readable=False))
    host.link("current", digest("a", 1))
    sets(host, "575.1.1")
    write(host.root / "driver/change.json", json.dumps({"from": "x", "to": "y"}))
    assert collected(host)["driver"] == []


def test_nothing_is_touched_while_a_call_of_an_earlier_run_is_at_work(host: Shelf) -> None:
    upgraded(host, 6)
    before = host.everything()
    with command._turn("venv", "venv", 0):
        assert collected(host)["releases"] == []
    assert host.everything() == before


def test_half_made_and_half_deleted_things_go_and_fresh_uploads_stay(host: Shelf) -> None:
    upgraded(host, 2)
    write(host.root / "releases/.bbbbbbbbbbbb.rackhand-new/manifest.json", "{}")
    write(host.root / "venvs/.bbbbbbbbbbbb.rackhand-old/lib/torch.so", "")
    write(host.root / "incoming/fresh@1/model.safetensors", "")
    write(host.root / "incoming/stale@1/model.safetensors", "")
    for path in (host.root / "incoming/stale@1", host.root / "incoming/stale@1/model.safetensors"):
        os.utime(path, (MADE, path.stat().st_mtime - DAY_S - 60))
    collected(host)
    assert [path for path in host.everything() if ".rackhand-" in path] == []
    assert host.there("incoming") == {"fresh@1"}


def test_the_only_copy_of_a_needed_release_is_no_leftover(host: Shelf) -> None:
    upgraded(host, 2)
    current = host.root / "releases" / digest("a", 1)
    current.rename(current.with_name(f".{digest('a', 1)}.rackhand-old"))
    collected(host)
    # `current` names it, though it is not whole: the next deploy finds it, or a person does.
    assert (host.root / "releases" / f".{digest('a', 1)}.rackhand-old" / "manifest.json").exists()


def test_old_programs_go_unless_an_order_is_open(host: Shelf) -> None:
    upgraded(host, 2)
    for name in ("old.pyz", "new.pyz"):
        write(host.root / "program" / name, "")
    (host.root / "program/current.pyz").symlink_to("new.pyz")
    host.order(to=digest("a", 1))
    collected(host)
    assert host.there("program") == {"old.pyz", "new.pyz", "current.pyz"}
    (host.root / "turn/order.json").unlink()
    collected(host)
    assert host.there("program") == {"new.pyz", "current.pyz"}


def test_packages_that_only_a_deleted_environment_had_leave_the_cache_of_uv(host: Shelf) -> None:
    upgraded(host, 5)
    for name, venv in (("torch-old", 0), ("torch-new", 4)):
        archive = host.root / "cache/uv/archive-v0" / name
        write(archive / "torch.so", "x" * (2 << 20))
        write(archive / "RECORD", "")
        os.link(archive / "torch.so", host.root / "venvs" / digest("e", venv) / "lib/linked.so")
    assert collected(host)["mib"] == 2
    assert host.there("cache/uv/archive-v0") == {"torch-new"}


def test_a_cache_from_which_uv_copied_is_left_alone(host: Shelf) -> None:
    upgraded(host, 5)
    write(host.root / "cache/uv/archive-v0/torch-old/torch.so", "")
    write(host.root / "cache/uv/archive-v0/torch-new/torch.so", "")
    assert len(collected(host)["venvs"]) == 2
    assert host.there("cache/uv/archive-v0") == {"torch-old", "torch-new"}


def test_what_is_not_named_as_we_name_things_is_not_ours(host: Shelf) -> None:
    upgraded(host, 5)
    strange = (
        "models/README",
        "models/by-hand/x",
        "releases/notes/x",
        "venvs/mine/x",
        "cache/hub/x",
        "program/notes.txt",
    )
    for path in strange:
        write(host.root / path, "")
    collected(host)
    assert all((host.root / path).exists() for path in strange)


def test_a_file_that_cannot_be_deleted_holds_up_nothing(host: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    upgraded(host, 6)
    remove = shelf._delete

    def refuse(path: Path) -> None:
        if digest("a", 0) in path.name:
            raise PermissionError("immutable")
        remove(path)

    monkeypatch.setattr(shelf, "_delete", refuse)
    collected(host)
    assert host.there("releases") == {digest("a", number) for number in (0, 3, 4, 5)}


# --- the property: whatever lies there, what is reachable stays -------------------------------------------------------

RELEASES = 6
some = st.integers(0, RELEASES - 1)
layouts = st.fixed_dictionaries(
    {
        "releases": st.lists(
            st.builds(
                Laid,
                number=some,
                venv=st.integers(0, 3),
                model=st.integers(0, 3),
                verdict=st.sampled_from(["passed", "passed", "failed", ""]),
                at=st.integers(0, 20),
                config=st.none() | st.integers(0, 3),
                schema=st.sampled_from([1, 2]),
                readable=st.sampled_from([True, True, True, False]),
                links=st.sampled_from([True, True, True, False]),
            ),
            max_size=RELEASES,
            unique_by=lambda each: each.number,
        ),
        "current": some,
        "previous": st.none() | some,
        "order": st.none() | st.tuples(some, some),
        "running": st.lists(st.tuples(some, st.integers(0, 3)), max_size=3),
        "stranger": st.booleans(),
        "keep": st.integers(2, 5),
        "linked": st.sets(st.sampled_from(["releases", "venvs", "models", "cache", "incoming"])),
        "crash": st.none() | st.integers(0, 12),
    }
)


def lay_down(host: Shelf, layout: dict[str, Any], outside: Path) -> None:
    host.lay(*layout["releases"])
    host.link("current", digest("a", layout["current"])) if host.root.exists() else None
    if layout["previous"] is not None and host.root.exists():
        host.link("previous", digest("a", layout["previous"]))
    if layout["order"]:
        host.order(to=digest("a", layout["order"][0]), back=digest("a", layout["order"][1]))
    for pid, (number, venv) in enumerate(layout["running"], start=100):
        config = host.laid[digest("a", number)].config_digest if digest("a", number) in host.laid else "0" * 12
        host.runs(pid, config, digest("e", venv))
    if layout["stranger"]:
        host.runs(99, "ffffffffffff")
    # Traps: links out of the root, among our things and in place of our folders.
    write(outside / "precious", "mine")
    for kind, name in (("models", "tiny@ffffffffffff"), ("releases", "ffffffffffff"), ("venvs", "ffffffffffff")):
        (host.root / kind).mkdir(parents=True, exist_ok=True)
        (host.root / kind / name).symlink_to(outside)
    for kind in layout["linked"]:
        place = host.root / kind
        if place.exists():
            place.rename(outside / kind)
        else:
            (outside / kind).mkdir()
        place.symlink_to(outside / kind)


def reachable(host: Shelf, layout: dict[str, Any]) -> set[str]:
    """Name every release that must stay, found another way than the program does: by what was laid down."""
    numbers = [layout["current"], layout["previous"], *(layout["order"] or ())]
    return {digest("a", number) for number in numbers if number is not None} & host.laid.keys()


def holds(host: Shelf, layout: dict[str, Any], outside_before: set[Path], outside: Path) -> None:
    assert set(outside.rglob("*")) == outside_before
    for name in reachable(host, layout):
        release = host.laid[name]
        place = host.root / "releases" / name
        assert (place / "manifest.json").exists()
        assert (host.root / "venvs" / release.venv_name / "lib/torch.so").exists()
        assert (host.root / "cache" / release.venv_name / "vllm/graph").exists()
        assert (host.root / "models" / release.model_name / "model.safetensors").exists()
    for number, venv in layout["running"]:
        running = host.laid.get(digest("a", number))
        if any(each.venv == venv for each in host.laid.values()):
            assert (host.root / "venvs" / digest("e", venv) / "lib/torch.so").exists()
        if running and running.readable:
            alike = [each for each in host.laid.values() if each.config_digest == running.config_digest]
            left = [each for each in alike if (host.root / "releases" / each.id / "manifest.json").exists()]
            assert any(each.readable for each in left)


@given(layout=layouts)
def test_nothing_that_is_reachable_goes_wherever_a_sweep_is_cut_off(layout: dict[str, Any]) -> None:
    with laid() as host, tempfile.TemporaryDirectory() as place:
        outside = Path(place)
        lay_down(host, layout, outside)
        before = set(outside.rglob("*"))
        with pytest.MonkeyPatch.context() as patch, suppress(KeyboardInterrupt):
            _cut_off_after(patch, layout["crash"])
            collected(host, layout["keep"])
        holds(host, layout, before, outside)
        collected(host, layout["keep"])
        holds(host, layout, before, outside)
        after = host.everything()
        assert not [path for path in after if ".rackhand-" in path]
        assert collected(host, layout["keep"])["releases"] == []
        assert host.everything() == after


def _cut_off_after(patch: pytest.MonkeyPatch, deeds: int | None) -> None:
    """Let the power fail at the n-th deletion, with the thing half deleted."""
    left, remove = [deeds], shelf._delete

    def delete(path: Path) -> None:
        if left[0] is not None:
            left[0] -= 1
            if left[0] < 0:
                for part in [each for each in path.rglob("*") if each.is_file()][:1]:
                    part.unlink()
                raise KeyboardInterrupt
        remove(path)

    patch.setattr(shelf, "_delete", delete)


def test_the_answer_can_be_sent(host: Shelf) -> None:
    upgraded(host, 3)
    assert json.loads(json.dumps(shelf.records(str(host.root))))
