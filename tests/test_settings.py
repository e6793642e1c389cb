"""Settings refuse what they do not understand, all at once, in words, and never repeat a value."""

import contextlib
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rackhand import settings
from rackhand.errors import RackhandError
from rackhand.settings import DEFAULTS, HINTS, OWNED_OPTIONS, PREFIXES, Settings

GOOD: dict[str, Any] = {"model_name": "tiny", "model_path": "/srv/models/tiny"}
CANARY = "sk-Canary7391"


def refusal(**data: Any) -> str:
    """Return the sentence with which these settings, added to good ones, are refused."""
    with pytest.raises(RackhandError) as caught:
        settings.load(GOOD | data, "rack1")
    assert caught.value.code == "settings"
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_options_may_be_written_with_underscores_as_vllm_takes_them() -> None:
    loaded = settings.load({**GOOD, "serve_options": {"max_num_seqs": 8, "kv-cache-dtype": "fp8"}}, "h")
    assert loaded.serve_options == {"max-num-seqs": 8, "kv-cache-dtype": "fp8"}


@pytest.mark.parametrize("option", ["tensor_parallel_size", "data-parallel-size", "device_memory_utilization"])
def test_an_option_that_belongs_to_a_setting_is_refused_in_either_spelling(option: str) -> None:
    assert f"'{option.replace('_', '-')}'" in refusal(serve_options={option: 1})


def test_a_name_and_a_model_path_are_enough() -> None:
    loaded = settings.load(GOOD, "rack1")
    assert loaded.model_dump(exclude={"model_name", "model_path"}) == {
        key: value for key, value in DEFAULTS.items() if key != "model_path"
    }


def test_settings_cannot_be_changed_after_they_are_checked() -> None:
    with pytest.raises(ValueError, match="frozen"):
        settings.load(GOOD, "rack1").serve_port = 9000


def test_data_of_pyinfra_and_of_the_user_is_left_alone() -> None:
    others = {"ssh_port": 22, "_timeout": 900, "lab_personality": "1xH100", "rack": "B7", "notes": ["quiet"]}
    assert settings.load(GOOD | others, "rack1") == settings.load(GOOD, "rack1")


def test_lists_are_accepted_where_settings_hold_tuples() -> None:
    assert settings.load(GOOD | {"engine_host_packages": ["gcc"]}, "rack1").engine_host_packages == ("gcc",)


@pytest.mark.parametrize(
    ("key", "near"),
    [
        ("serve_prot", "serve_port"),
        ("driver_brnch", "driver_branch"),
        ("model_nam", "model_name"),
        ("drvier_branch", "driver_branch"),
        ("sevre_port", "serve_port"),
    ],
)
def test_a_typo_is_refused_with_the_setting_it_resembles(key: str, near: str) -> None:
    assert f"unknown setting '{key}' (did you mean '{near}'?)" in refusal(**{key: 1})


def test_an_unknown_setting_that_resembles_none_is_refused_without_a_guess() -> None:
    assert "rack1: unknown setting 'gate_zzzz' [settings]" in refusal(gate_zzzz=1)


def test_every_problem_is_named_at_once() -> None:
    text = refusal(serve_prot=1, driver_branch=580, serve_host="0.0.0.0", model_hub_id="a/b", serve_options={"port": 1})
    for part in ("serve_prot", "driver_branch", "serve_host 0.0.0.0 is public", "exactly one of", "'port'"):
        assert part in text


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("driver_manage", "yes", "driver_manage: must be True or False"),
        ("driver_branch", 580, "driver_branch: must be a driver branch of three digits as text, such as '580'"),
        ("driver_branch", "٥٨٠", "driver_branch: must be a driver branch"),
        ("driver_repository_url", "http://x/", "without a final slash, or None"),
        ("driver_key_fingerprint", "AB CD", "40 upper-case hexadecimal digits"),
        ("gpu_count", True, "gpu_count: must be a whole number from 0 to 64, or None"),
        ("engine_version", "0.33", "engine_version: must be an exact vLLM version as text, such as '0.33.0'"),
        ("engine_python", 3.12, "engine_python: must be a Python version as text, such as '3.12'"),
        ("engine_host_packages", ("gcc", 1), "engine_host_packages: must be a list whose items are each text, or None"),
        ("rollout_canary", ("gpu-1", 1), "rollout_canary[1]: must be"),
        ("engine_uv_env", {"A B": "x"}, "engine_uv_env: 'A B' must be the name of an environment variable"),
        ("engine_uv_env", {"A": 1}, "engine_uv_env['A']: must be text"),
        ("model_name", "two words", "model_name: must be a name of letters, digits"),
        ("model_name", None, "model_name: must be a name of letters, digits"),
        ("serve_port", 80, "serve_port: must be a whole number from 1024 to 65535"),
        ("serve_port", "8000", "serve_port: must be a whole number"),
        ("serve_instances", "all", "serve_instances: must be 'auto' or a whole number from 1 to 64"),
        ("serve_tensor_parallel_size", 65, "must be 'auto' or a whole number from 1 to 64"),
        ("serve_max_model_len", 1, "serve_max_model_len: must be 'auto' or a whole number of at least 16, or None"),
        ("serve_gpu_memory_utilization", 1.0, "must be a number from 0.5 to 0.98"),
        ("serve_options", {"--x": 1}, "serve_options: '--x' must be the name of a vLLM option"),
        ("serve_options", {"x": None}, "serve_options['x']: must be True, False, a number, text"),
        ("serve_options", ["x"], "serve_options: must be a dictionary from the name of a vLLM option"),
        ("gate_request_timeout_s", 0, "gate_request_timeout_s: must be a whole number from 1 to 86400"),
        ("preflight_on_refusal", "ignore", "preflight_on_refusal: must be 'stop' or 'skip'"),
    ],
)
def test_a_wrong_value_names_the_key_and_what_is_allowed(key: str, value: object, words: str) -> None:
    text = refusal(**{key: value})
    assert words in text
    assert "Input should" not in text
    assert "literal[" not in text


def test_a_missing_model_name_is_called_required() -> None:
    with pytest.raises(RackhandError, match="model_name: is required"):
        settings.load({"model_path": "/m"}, "rack1")


@pytest.mark.parametrize("revision", [None, "a" * 12])
def test_a_hub_model_needs_its_full_commit(revision: str | None) -> None:
    assert "full 40-digit commit" in refusal(model_path=None, model_hub_id="a/b", model_revision=revision)


def test_a_hub_model_with_its_commit_is_accepted() -> None:
    data = {"model_name": "tiny", "model_hub_id": "a/b", "model_revision": "a" * 40}
    assert settings.load(data, "rack1").model_hub_id == "a/b"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.5", "rack1.example", ""])
def test_a_public_bind_without_a_key_is_refused(host: str) -> None:
    assert "anybody could use the GPUs" in refusal(serve_host=host)
    assert settings.load(GOOD | {"serve_host": host, "serve_api_key_from": "env:KEY"}, "rack1").serve_host == host


@pytest.mark.parametrize("host", settings.LOOPBACK)
def test_a_loopback_bind_needs_no_key(host: str) -> None:
    assert settings.load(GOOD | {"serve_host": host}, "rack1").serve_host == host


@pytest.mark.parametrize("option", sorted(OWNED_OPTIONS))
def test_an_option_that_a_setting_owns_is_refused_with_what_to_use(option: str) -> None:
    assert f"serve_options must not hold '{option}': {OWNED_OPTIONS[option]}" in refusal(serve_options={option: 1})


@pytest.mark.parametrize("name", ["VLLM_API_KEY", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "DB_PASSWORD"])
def test_a_secret_in_the_environment_of_the_server_is_refused(name: str) -> None:
    text = refusal(serve_env={name: CANARY})
    assert name in text
    assert CANARY not in text


def test_ordinary_environment_variables_are_accepted() -> None:
    env = {"VLLM_LOGGING_LEVEL": "INFO", "TOKENIZERS_PARALLELISM": "false"}
    assert settings.load(GOOD | {"serve_env": env}, "rack1").serve_env == env


@pytest.mark.parametrize("key", ["serve_api_key_from", "model_hub_token_from"])
@pytest.mark.parametrize("pasted", [CANARY, f"env:{CANARY}", f"file:{CANARY}", f"env:{CANARY}\n", f"file:/x\n{CANARY}"])
def test_a_secret_pasted_where_a_source_belongs_is_refused_unseen(key: str, pasted: str) -> None:
    text = refusal(**{key: pasted})
    assert f"{key}: must be 'env:NAME'" in text
    assert CANARY not in text


@pytest.mark.parametrize("key", sorted(HINTS))
@pytest.mark.parametrize("wrap", [lambda v: v, lambda v: [v], lambda v: {"a": v}, lambda v: {"a": [v, None]}])
def test_no_error_repeats_a_text_value(key: str, wrap: Any) -> None:
    with pytest.raises(RackhandError) as caught:
        settings.load(GOOD | {"serve_prot": 1} | {key: wrap(CANARY)}, "rack1")
    assert CANARY not in str(caught.value)
    assert CANARY not in repr(caught.value.__context__)


text = st.text("abz09-_:/. \n\x00ä\u0665", max_size=12)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=6,
)
ours = st.sampled_from(sorted(HINTS)) | st.sampled_from(PREFIXES).flatmap(lambda prefix: text.map(prefix.__add__))


@hypothesis.settings(deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
@given(data=st.dictionaries(ours, anything, max_size=6))
def test_any_data_is_either_accepted_or_refused_in_words(data: dict[str, Any]) -> None:
    loaded: Settings | None = None
    with contextlib.suppress(RackhandError):
        loaded = settings.load(GOOD | data, "rack1")
    if loaded is not None:
        assert data.keys() <= Settings.model_fields.keys()
        assert all(getattr(loaded, key) == settings._plain(value) for key, value in data.items())


def test_no_source_means_no_secret() -> None:
    assert settings.secret(None, "serve_api_key_from", "rack1") is None


def test_a_secret_is_read_from_the_environment_and_does_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RACK_KEY", CANARY)
    found = settings.secret("env:RACK_KEY", "serve_api_key_from", "rack1")
    assert found is not None
    assert found.get_secret_value() == CANARY
    assert CANARY not in repr(found)


def test_a_secret_is_read_from_a_file_without_its_final_newline(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(f"{CANARY}\n")
    found = settings.secret(f"file:{tmp_path}/key", "serve_api_key_from", "rack1")
    assert found is not None
    assert found.get_secret_value() == CANARY


@pytest.mark.parametrize("content", ["", " \n", f"{CANARY}\nsecond", f"{CANARY}\r\x00"])
def test_a_secret_that_is_not_one_line_is_refused_unseen(tmp_path: Path, content: str) -> None:
    (tmp_path / "key").write_text(content)
    with pytest.raises(RackhandError) as caught:
        settings.secret(f"file:{tmp_path}/key", "serve_api_key_from", "rack1")
    assert caught.value.code == "secret"
    assert str(tmp_path) in str(caught.value)
    assert CANARY not in str(caught.value)


def test_an_unset_variable_and_an_unreadable_file_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    for source in ("env:NOT_SET_ANYWHERE", f"file:{tmp_path}/none", f"file:{tmp_path}", f"file:{tmp_path}/binary"):
        with pytest.raises(RackhandError, match="serve_api_key_from") as caught:
            settings.secret(source, "serve_api_key_from", "rack1")
        assert source.partition(":")[2] in str(caught.value)


@pytest.mark.parametrize("name", ["PATH", "CUDA_VISIBLE_DEVICES", "RACKHAND_CONFIG", "VLLM_PORT"])
def test_variables_that_follow_from_the_plan_are_refused_by_name(name: str) -> None:
    assert f"serve_env must not hold {name}: rackhand derives it from the plan" in refusal(serve_env={name: "0"})


def test_a_value_that_no_environment_can_hold_is_refused_by_name() -> None:
    assert "serve_env NAME holds a NUL character" in refusal(serve_env={"NAME": "a\0b"})


def test_a_driver_version_of_another_branch_is_refused() -> None:
    assert "driver_version is not of driver_branch" in refusal(driver_version="570.211.01", driver_branch="580")
