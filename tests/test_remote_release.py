"""A release is on the host whole or not at all, and what lies there can be told from what should."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

from rackhand import planner
from rackhand.plan import Plan
from rackhand.remote import command, measured, state
from rackhand.remote import release as remote
from rackhand.remote.problem import Problem
from rackhand.render import Release, render
from tests.surveys import DRIVER, VENV, survey, wishes

MODEL = "llama@abcdefabcdef"
TIMEOUT_S = 30
Content = dict[str, dict[str, Any]]


def rendered(**wished: Any) -> Release:
    wish = wishes(driver_version=DRIVER, key="canary", **wished)
    plan = planner.plan("gpu-1", survey("h100", "h100"), wish)
    assert isinstance(plan, Plan)
    return render(plan, wish.settings, wish.weights, wish.api_key, False)


def content(release: Release) -> Content:
    return {path: {"text": file.text, "mode": file.mode} for path, file in release.files.items()}


def parser(root: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    """Put a program where the environment's Python would be: it stands for vLLM's parser."""
    monkeypatch.setattr(command, "LOGS", root / "log")
    program = root / "venvs" / VENV / "bin" / "python"
    program.parent.mkdir(parents=True, exist_ok=True)
    program.write_text(f"#!/bin/sh\n{body}\n")
    program.chmod(0o755)


def place(root: Path, release: Release) -> None:
    remote.place(str(root), release.id, content(release), VENV, MODEL, TIMEOUT_S)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host of files: the unit directory is beside the root, systemd is asked nothing."""
    monkeypatch.setattr(remote, "UNIT", tmp_path / "systemd" / "vllm@.service")
    monkeypatch.setattr(remote, "_verify", lambda unit: None)
    monkeypatch.setattr(subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 0))
    parser(tmp_path / "rackhand", monkeypatch, "exit 0")
    return tmp_path / "rackhand"


def test_every_file_arrives_with_its_mode_and_the_links_lead_out(root: Path) -> None:
    release = rendered()
    place(root, release)
    there = root / "releases" / release.id
    for path, file in release.files.items():
        assert (there / path).read_text() == file.text
        assert (there / path).stat().st_mode & 0o777 == file.mode
    assert str((there / "venv").readlink()) == f"../../venvs/{VENV}"
    assert str((there / "model").readlink()) == f"../../models/{MODEL}"
    assert [path.name for path in (root / "releases").iterdir()] == [release.id]


def test_the_fingerprint_of_the_directory_is_the_one_that_was_computed_before(root: Path) -> None:
    release = rendered()
    place(root, release)
    assert state.fingerprint(root / "releases" / release.id) == release.fingerprint


@pytest.mark.parametrize("damage", ["edited", "mode", "removed", "added", "relinked"])
def test_whatever_a_hand_changes_changes_the_fingerprint(root: Path, damage: str) -> None:
    release = rendered()
    place(root, release)
    there = root / "releases" / release.id
    config = there / "instances" / "llama-0.yaml"
    match damage:
        case "edited":
            config.write_text(config.read_text() + "\n")
        case "mode":
            (there / "instances" / "llama-0.env").chmod(0o644)
        case "removed":
            config.unlink()
        case "added":
            (there / "instances" / "extra.yaml").touch()
        case "relinked":
            (there / "venv").unlink()
            (there / "venv").symlink_to("/elsewhere")
    assert state.fingerprint(there) != release.fingerprint
    names = {"added": "instances/extra.yaml", "relinked": "venv", "mode": "instances/llama-0.env"}
    assert state.edited(there) == [names.get(damage, "instances/llama-0.yaml")]


def test_what_is_written_beside_a_release_later_is_no_edit(root: Path) -> None:
    release = rendered()
    place(root, release)
    there = root / "releases" / release.id
    for name in state.WRITTEN_LATER[::2]:
        (there / name).write_text("{}")
    assert state.edited(there) == []
    assert state.fingerprint(there) == release.fingerprint
    (there / state.PLACED).unlink()
    assert state.edited(there) is None


def test_placing_repairs_what_a_hand_changed_and_remembers_who_is_owed_a_restart(root: Path) -> None:
    release = rendered()
    place(root, release)
    there = root / "releases" / release.id
    (there / "instances" / "llama-1.yaml").write_text("model: another\n")
    place(root, release)
    assert state.fingerprint(there) == release.fingerprint
    assert [path.name for path in (root / state.OWED).iterdir()] == ["llama-1"]


def test_what_was_found_out_about_a_release_stays_when_it_is_placed_again(root: Path) -> None:
    release = rendered()
    place(root, release)
    there = root / "releases" / release.id
    for name in (measured.RECORD, state.VERDICT):
        (there / name).write_text(name)
    place(root, release)
    assert [(there / name).read_text() for name in (measured.RECORD, state.VERDICT)] == [measured.RECORD, state.VERDICT]


def test_a_refused_unit_leaves_nothing_that_could_be_switched_to(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Path) -> None:
        raise Problem("unit-invalid", "no", "nothing was switched")

    monkeypatch.setattr(remote, "_verify", refuse)
    with pytest.raises(Problem):
        place(root, rendered())
    assert not [path for path in (root / "releases").iterdir() if not path.name.startswith(".")]


def test_the_leftovers_of_an_interrupted_run_do_not_matter(root: Path) -> None:
    release = rendered()
    half = root / "releases" / f".{release.id}.rackhand-new" / "instances"
    half.mkdir(parents=True)
    (half / "wrong.yaml").touch()
    place(root, release)
    assert state.fingerprint(root / "releases" / release.id) == release.fingerprint


def test_a_switch_moves_current_and_remembers_what_was_before(root: Path) -> None:
    old, new = rendered(), rendered(serve_max_model_len=512)
    for release, before in ((old, ""), (new, old.id)):
        place(root, release)
        remote.install(str(root), release.id, before)
    assert str((root / "current").readlink()) == f"releases/{new.id}"
    assert str((root / "previous").readlink()) == f"releases/{old.id}"
    assert remote.UNIT.read_text() == new.files["vllm@.service"].text


def test_no_release_is_remembered_as_the_one_before_itself(root: Path) -> None:
    release = rendered()
    place(root, release)
    remote.install(str(root), release.id, release.id)
    assert not (root / "previous").is_symlink()
    remote.remove(str(root), "")
    assert not (root / "current").is_symlink()


def test_systemd_reloads_exactly_when_the_unit_file_changed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        asked.append(command)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", run)
    release = rendered()
    place(root, release)
    for _ in range(2):
        remote.install(str(root), release.id, "")
    assert asked == [["systemctl", "daemon-reload"]]
    remote.install(str(root), release.id, "", reload=True)
    assert asked == [["systemctl", "daemon-reload"]] * 2


def on_two_nodes(**wished: Any) -> Release:
    """Render for two GPUs on two NUMA nodes: every unit has CPUs of its own."""
    nodes = [{"node": node, "cpus": f"{node}", "memory_mib": 1} for node in (0, 1)]
    wish = wishes(driver_version=DRIVER, key="canary", **wished)
    plan = planner.plan("gpu-1", survey("h100", "h100", nodes=nodes, pci__1__numa_node=1), wish)
    assert isinstance(plan, Plan), plan
    return render(plan, wish.settings, wish.weights, wish.api_key, False)


def drop_ins() -> dict[str, str]:
    """Return the drop-ins that lie where systemd reads them, by their instance."""
    places = remote.UNIT.parent.glob(state.DROP_INS)
    return {state.instance_of(str(path)): path.read_text() for path in places}


def test_a_switch_installs_what_single_units_have_and_takes_away_what_they_have_no_more(root: Path) -> None:
    wide = on_two_nodes()
    place(root, wide)
    remote.install(str(root), wide.id, "")
    assert {name: "CPUAffinity=" in text for name, text in drop_ins().items()} == {"llama-0": True, "llama-1": True}
    by_hand = remote.UNIT.parent / "vllm@llama-1.service.d" / "mine.conf"
    by_hand.write_text("[Service]\nNice=5\n")
    narrow = rendered()
    place(root, narrow)
    remote.install(str(root), narrow.id, "")
    assert drop_ins() == {}
    assert by_hand.exists()


def test_a_drop_in_that_a_hand_changed_is_restored_and_its_instance_owed_a_restart(root: Path) -> None:
    release = on_two_nodes()
    place(root, release)
    remote.install(str(root), release.id, "")
    before = drop_ins()
    (remote.UNIT.parent / "vllm@llama-1.service.d" / "rackhand.conf").write_text("[Service]\nCPUAffinity=7\n")
    remote.install(str(root), release.id, "")
    assert drop_ins() == before
    assert [path.name for path in (root / state.OWED).iterdir()] == ["llama-1"]


def test_the_state_tells_drop_ins_as_the_release_does(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    release = on_two_nodes()
    place(root, release)
    remote.install(str(root), release.id, "")
    monkeypatch.setattr(state, "UNIT", remote.UNIT)
    monkeypatch.setattr(state, "instances", list)
    assert state.state(str(root), VENV, MODEL, "uv", "root")["drop_ins"] == dict(release.drop_ins)


def test_the_real_systemd_accepts_what_sharing_instances_add_and_refuses_nonsense(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parser(tmp_path, monkeypatch, "exit 0")
    release = on_two_nodes(serve_gpu_shares=(0.45, 0.45))
    place(tmp_path, release)
    broken = content(release)
    broken["vllm@llama-1.service.d/rackhand.conf"]["text"] = "[Service]\nCPUAffinity=all of them\n"
    with pytest.raises(Problem) as caught:
        remote.place(str(tmp_path), "broken", broken, VENV, MODEL, TIMEOUT_S)
    assert caught.value.code == "unit-invalid"


def test_the_real_systemd_accepts_the_rendered_unit_and_refuses_a_broken_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parser(tmp_path, monkeypatch, "exit 0")
    release = rendered()
    place(tmp_path, release)
    broken = content(release)
    broken["vllm@.service"]["text"] = "[Service]\nExecStart=relative/path\n"
    with pytest.raises(Problem) as caught:
        remote.place(str(tmp_path), "broken", broken, VENV, MODEL, TIMEOUT_S)
    assert caught.value.code == "unit-invalid"
    assert caught.value.evidence
    assert not (tmp_path / "releases" / "broken").exists()


def test_options_that_vllm_refuses_leave_no_release_and_quote_its_words(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parser(root, monkeypatch, "echo 'vllm: error: unrecognized arguments: --max-nmu-seqs 4'; exit 2")
    with pytest.raises(Problem) as caught:
        place(root, rendered())
    assert caught.value.code == "engine-options"
    assert "unrecognized arguments: --max-nmu-seqs 4" in caught.value.what
    assert not [path for path in (root / "releases").iterdir() if not path.name.startswith(".")]


def test_a_vllm_without_the_known_parser_is_placed_and_said_to_be_unchecked(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = rendered()
    parser(root, monkeypatch, "exit 3")
    answer = remote.place(str(root), release.id, content(release), VENV, MODEL, TIMEOUT_S)
    assert answer == {"options_checked": False}
