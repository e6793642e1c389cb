"""The health probe asks the emulated library through the real nvidia-ml-py, in a process of its own as on a host."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rackhand import payload
from rackhand.lab import personality
from rackhand.lab.personality import Ailments
from tests import ailments
from tests.lab.test_emulated_nvml import Host


def asked(host: Host, text: str) -> Any:
    argv = [sys.executable, "-c", payload.LOADER]
    done = subprocess.run(argv, input=text.encode(), env=host.environment(), capture_output=True, check=True)
    return json.loads(done.stdout)["result"]


def test_a_card_that_nvml_counts_and_does_not_open_is_told_and_not_left_out(tmp_path: Path) -> None:
    host = Host(tmp_path, personality.load("2xRTX4090").with_gpu(1, lost=True))
    gpus = asked(host, payload.health_nvml(0))["gpus"]
    assert [(each["address"], each["state"]) for each in gpus] == [("0000:41:00.0", "ok"), ("", "lost")]


def test_what_a_card_does_not_have_is_absent_and_never_zero(tmp_path: Path) -> None:
    first, *_ = asked(Host(tmp_path, personality.load("2xRTX4090")), payload.health_nvml(0))["gpus"]
    assert {first[name] for name in ("remapped", "ecc", "ecc_uncorrected", "retired_pending", "nvlinks")} == {None}
    assert first["failed"] == {}


@pytest.mark.parametrize(("ready", "state", "code"), [(False, 1, 802), (True, 3, 0)])
def test_the_fabric_decides_whether_cuda_starts(tmp_path: Path, ready: bool, state: int, code: int) -> None:
    host = Host(tmp_path, personality.load("8xH100-nvswitch"))
    if ready:
        (tmp_path / "fabric-ready").touch()
    assert {each["fabric"]["state"] for each in asked(host, payload.health_nvml(0))["gpus"]} == {state}
    assert asked(host, payload.health_cuda())["code"] == code


@pytest.mark.parametrize(("loaded", "state", "code"), [(None, "not-loaded", 100), ("580.95.05", "mismatch", 803)])
def test_nvml_and_cuda_say_apart_what_is_wrong_with_the_driver(
    tmp_path: Path, loaded: str | None, state: str, code: int
) -> None:
    host = Host(tmp_path, personality.load("1xH100"))
    host.load(loaded)
    assert asked(host, payload.health_nvml(0))["state"] == state
    assert asked(host, payload.health_cuda())["code"] == code


AILMENTS: list[tuple[str, Ailments, str]] = [
    ("1xL4", Ailments(remap_pending=True), "row-remap-pending"),
    ("1xL4", Ailments(remap_failed=True), "row-remap-failed"),
    ("1xT4", Ailments(retired_pending=True), "retired-page-pending"),
    ("1xL4", Ailments(ecc_uncorrected=2), "ecc-uncorrected"),
    ("1xL4", Ailments(sram_exceeded=True), "sram-threshold"),
    ("1xL4", Ailments(recovery=1), "recovery-action"),
    ("1xL4", Ailments(clock_events=0x88), "power-brake"),
    ("1xL4", Ailments(reset_required=True), "gpu-reset-required"),
]


@pytest.mark.parametrize(("name", "ails", "code"), AILMENTS, ids=[code for _, _, code in AILMENTS])
def test_what_ails_a_card_is_read_and_found(tmp_path: Path, name: str, ails: Ailments, code: str) -> None:
    sick = asked(Host(tmp_path, personality.load(name).with_gpu(0, ails=ails)), payload.health_nvml(0))["gpus"]
    answer = ailments.host(1)
    answer["nvml"]["gpus"] = [{**each, "persistence": True, "address": ailments.address(0)} for each in sick]
    answer["engines"] = []
    assert code in ailments.codes(answer)
    assert [each for each in ailments.codes(answer) if each not in (code, "cuda-devices", "module-refused")] == []
