"""What is wished is resolved before any host is asked: the model too, wherever it lies."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import gevent  # type: ignore[import-untyped]
import pytest
from pydantic import SecretStr

from rackhand import wishes
from rackhand.errors import RackhandError
from rackhand.models.spec import ModelSpec
from tests.specs import LLAMA_8B

COMMIT = "0123456789abcdef0123456789abcdef01234567"
HUB = {"model_hub_id": "some/llama", "model_revision": COMMIT}


@pytest.fixture
def data(tmp_path: Path) -> dict[str, Any]:
    """Return data of a host, all but the model."""
    requirements = tmp_path / "engine.txt"
    requirements.write_text("vllm==0.33.0 --hash=sha256:00\n")
    return {"model_name": "llama", "engine_version": "0.33.0", "engine_requirements": str(requirements)}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Let a hub answer every question with one model, and remember the questions."""
    questions: list[tuple[Any, ...]] = []

    def find(model: str, **more: Any) -> ModelSpec:
        questions.append((model, *more.values()))
        return LLAMA_8B

    wishes._asked.cache_clear()
    monkeypatch.setattr(wishes, "find", find)
    return questions


def silent(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Let the hub answer with an error."""

    def find(*_: Any, **__: Any) -> ModelSpec:
        raise RackhandError(code, "the hub says no to some/llama", "some/llama@0123", "look at the name")

    wishes._asked.cache_clear()
    monkeypatch.setattr(wishes, "find", find)


def test_a_model_on_the_hub_is_known_by_its_revision_before_hosts_are_asked(
    data: dict[str, Any], asked: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HUB_TOKEN", "canary")
    more = {**HUB, "model_hub_endpoint": "https://mirror.example", "model_hub_token_from": "env:HUB_TOKEN"}
    for host in ("a", "b"):
        found = wishes.resolve({**data, **more}, host)
        assert found.spec is LLAMA_8B
        assert found.weight_bytes == found.total_bytes == LLAMA_8B.weight_bytes
    assert asked == [(f"some/llama@{COMMIT}", "https://mirror.example", SecretStr("canary"))]


def test_a_model_of_the_catalogue_brings_its_hub_id_and_commit(
    data: dict[str, Any], asked: list[tuple[Any, ...]]
) -> None:
    found = wishes.resolve({**data, "model_catalogue": "qwen3-8b"}, "a")
    hub_id, _, revision = found.weights.source.partition("@")
    assert (hub_id, len(revision)) == ("Qwen/Qwen3-8B", 40)
    assert [question[0] for question in asked] == [found.weights.source]


def test_a_model_that_the_catalogue_does_not_know_is_refused_with_near_names(data: dict[str, Any]) -> None:
    with pytest.raises(RackhandError, match="qwen3-8b") as caught:
        wishes.resolve({**data, "model_catalogue": "qwen3-8"}, "a")
    assert caught.value.code == "unknown-model"


@pytest.mark.parametrize("code", ["hub-refused", "hub-missing"])
def test_a_hub_that_says_no_is_believed_at_once(
    data: dict[str, Any], monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    silent(monkeypatch, code)
    with pytest.raises(RackhandError) as caught:
        wishes.resolve({**data, **HUB}, "gpu-7")
    assert (caught.value.code, caught.value.where) == (code, "gpu-7")


@pytest.mark.parametrize("code", ["hub-unreachable", "model-unsupported"])
def test_a_model_that_cannot_be_told_from_here_is_deployed_with_the_reason(
    data: dict[str, Any], monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    silent(monkeypatch, code)
    found = wishes.resolve({**data, **HUB}, "a")
    assert (found.spec, found.spec_unknown) == (None, "the hub says no to some/llama")
    assert found.weight_bytes == found.total_bytes == 0


def test_what_still_works_and_will_not_for_long_is_a_warning(
    data: dict[str, Any], asked: list[tuple[Any, ...]]
) -> None:
    found = wishes.resolve({**data, **HUB}, "a")
    assert found.warnings == ()
    old = found.settings.model_copy(update={"serve_options": {"log-config-file": "x"}})
    assert [line.split()[0] for line in replace(found, settings=old).warnings] == ["log-config-file"]


def test_hosts_that_are_planned_side_by_side_ask_once_for_all(
    data: dict[str, Any], asked: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others ask while the first one waits for the hub; a lock that greenlets cannot wait for would hang here."""

    def slow(model: str, **more: Any) -> ModelSpec:
        asked.append((model, *more.values()))
        gevent.sleep(0.05)
        return LLAMA_8B

    monkeypatch.setattr(wishes, "find", slow)
    hosts = [gevent.spawn(wishes.resolve, {**data, **HUB}, name) for name in "abcd"]
    gevent.joinall(hosts, timeout=10, raise_error=True)
    assert [each.value.spec for each in hosts] == [LLAMA_8B] * 4
    assert len(asked) == 1
