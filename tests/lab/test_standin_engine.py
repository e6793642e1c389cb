"""The stand-in engine answers like the real one, as far as the gate and clients can see."""

import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rackhand.lab import tiny_model, wheels
from tests.lab.standin_host import READY_S, VERSION, Host, host, installed

__all__ = ["host", "installed"]


@pytest.mark.parametrize(("extra", "status"), [({}, 0), ({"swap-space": "4"}, 2)])
def test_its_parser_is_found_where_vllm_keeps_it(host: Host, extra: dict[str, str], status: int) -> None:
    host.options.update(extra)
    assert host.parses() == status


def test_it_answers_the_questions_of_the_gate(host: Host) -> None:
    host.serves()
    assert host.asks("/health")[0] == 200
    assert json.loads(host.asks("/version")[1]) == {"version": VERSION}
    (model,) = json.loads(host.asks("/v1/models")[1])["data"]
    assert (model["id"], model["max_model_len"], model["root"]) == ("tiny", 256, str(host.model))


def test_five_tokens_are_five_tokens_and_the_counter_moves(host: Host) -> None:
    host.serves()
    before = host.counts("vllm:generation_tokens_total")
    status, text = host.completes()
    answer: dict[str, Any] = json.loads(text)
    assert status == 200
    assert answer["usage"] == {"prompt_tokens": 11, "total_tokens": 16, "completion_tokens": 5}
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["choices"][0]["text"]
    assert host.counts("vllm:generation_tokens_total") - before == 5
    assert host.counts("vllm:prompt_tokens_total") == 11


def test_a_stream_brings_one_event_per_token_and_an_end(host: Host) -> None:
    host.serves()
    _, text = host.completes(stream=True, stream_options={"include_usage": True})
    events = [line.removeprefix("data: ") for line in text.splitlines() if line]
    assert events[-1] == "[DONE]"
    assert json.loads(events[-2])["usage"]["completion_tokens"] == 5
    assert [json.loads(event)["choices"][0]["finish_reason"] for event in events[:5]] == [None] * 4 + ["length"]


def test_each_answer_says_which_engine_gave_it(host: Host) -> None:
    host.serves()
    who = f"vllm-{VERSION}-{socket.gethostname()}:{host.port}"
    assert json.loads(host.completes()[1])["system_fingerprint"] == who
    first = host.completes(stream=True)[1].splitlines()[0].removeprefix("data: ")
    assert json.loads(first)["system_fingerprint"] == who


def test_it_chats(host: Host) -> None:
    host.serves()
    body = {"model": "tiny", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 3}
    status, text = host.asks("/v1/chat/completions", body)
    assert status == 200
    assert json.loads(text)["choices"][0]["message"]["content"]


def test_an_unknown_model_and_a_long_request_are_refused(host: Host) -> None:
    host.serves()
    assert host.completes(model="other")[0] == 404
    assert host.completes(max_tokens=9999)[0] == 400


def test_a_key_protects_v1_alone(host: Host) -> None:
    host.serves(key="canary-key")
    assert host.asks("/v1/models")[0] == 401
    assert host.asks("/v1/models", key="wrong")[0] == 401
    assert host.asks("/v1/models", key="canary-key")[0] == 200
    assert host.asks("/metrics")[0] == 200
    assert "canary-key" not in host.journal()


def test_an_api_key_of_null_turns_authentication_off(host: Host) -> None:
    host.options["api-key"] = "null"
    host.serves(key="canary-key")
    assert host.asks("/v1/models")[0] == 200


def test_a_config_given_with_an_equals_sign_is_ignored(host: Host) -> None:
    host.serves(f"--config={host.place}/tiny.yaml", "--port", str(host.port))
    assert "Qwen/Qwen3-0.6B" in host.asks("/v1/models")[1]


def test_the_positional_model_beats_the_one_in_the_file(host: Host, tmp_path: Path) -> None:
    other = tiny_model.build(tmp_path / "other")
    host.serves(str(other), "--config", str(host.place / "tiny.yaml"))
    assert str(other) in host.asks("/v1/models")[1]


def test_a_config_without_model_ends_the_start(host: Host) -> None:
    del host.options["model"]
    assert host.starts().wait(READY_S) == 1
    assert "No model specified!" in host.journal()


def test_a_missing_model_directory_ends_the_start(host: Host) -> None:
    host.options["model"] = "/nowhere/at/all"
    assert host.starts().wait(READY_S) == 1
    assert "HFValidationError" in host.journal()


def test_an_option_that_vllm_does_not_know_ends_with_status_2(host: Host) -> None:
    host.options["swap-space"] = "4"
    assert host.starts().wait(READY_S) == 2
    assert "unrecognized arguments: --swap-space" in host.journal()


def test_a_taken_port_ends_the_start(host: Host) -> None:
    host.serves()
    assert host.starts().wait(READY_S) == 1
    assert "address already in use" in host.journal()


def test_the_requirements_of_a_stand_in_pin_the_wheel_that_is_built(tmp_path: Path) -> None:
    built = wheels.build(tmp_path)
    for version in wheels.STANDIN_VERSIONS:
        text = wheels.requirements(version)
        assert text == wheels.requirements(f"{version}+standin")
        assert f"vllm=={version}+standin" in text
        assert f"sha256:{built[f'vllm-{version}+standin-py3-none-any.whl']}" in text


def test_the_wheel_installs_with_hashes_required_and_its_command_runs(tmp_path: Path) -> None:
    wheels.build(tmp_path / "wheels")
    (tmp_path / "lock.txt").write_text(wheels.requirements(VERSION))
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "uv", "venv", "-q", "--python", sys.executable, str(venv)], check=True)
    sync = [
        sys.executable,
        "-m",
        "uv",
        "pip",
        "sync",
        "-q",
        "--offline",
        "--require-hashes",
        "--python",
        f"{venv}/bin/python",
    ]
    subprocess.run([*sync, "--find-links", f"{tmp_path}/wheels", f"{tmp_path}/lock.txt"], check=True)
    done = subprocess.run([f"{venv}/bin/vllm", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"{VERSION}+standin"
