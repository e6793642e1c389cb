"""A release is a pure function of plan, settings and secret; vLLM reads from it what was meant; secrets stay private.

To renew the golden files after looking at the difference: REWRITE_GOLDEN=1 pytest tests/test_render.py
"""

import dataclasses
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from rackhand import planner, seen
from rackhand.plan import Plan, Setting
from rackhand.render import PRIVATE, PUBLIC, Release, environment, render
from rackhand.survey import Survey
from rackhand.wishes import Wishes
from tests.surveys import DRIVER, survey, uuid, wishes

GOLDEN = Path(__file__).parent / "golden" / "release"
CANARY = "canary-$ecret-\"quoted\"-'key'"
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
VALUE = st.booleans() | st.integers(-9, 9) | TEXT | st.lists(st.booleans() | TEXT, max_size=3)
NAME = st.from_regex(r"\A[a-z0-9][a-z0-9-]{0,11}\Z")


def plan_of(found: Survey, wished: Wishes) -> Plan:
    verdict = planner.plan("gpu-1", found, wished)
    assert isinstance(verdict, Plan), verdict
    return verdict


def rendered(found: Survey, wished: Wishes) -> Release:
    return render(plan_of(found, wished), wished.settings, wished.weights, wished.api_key, seen.has_fabric(found))


def options(release: Release, instance: str = "llama-0") -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(release.files[f"instances/{instance}.yaml"].text)
    return found


def wished(key: str | None = CANARY, **changes: Any) -> Wishes:
    return wishes(key=key, **{"driver_version": DRIVER, "serve_api_key_from": "env:KEY", **changes})


TWO_NODES = [{"node": node, "cpus": f"{32 * node}-{32 * node + 31}", "memory_mib": 1} for node in (0, 1)]
HOSTS = {
    "1xH100": (survey("h100"), wished(serve_options={"enable-prefix-caching": False, "max-num-seqs": 256})),
    "2x4090": (survey("rtx4090", "rtx4090"), wished(serve_env={"NCCL_DEBUG": "WARN"})),
    "2xH100-two-nodes-shared": (
        survey("h100", "h100", nodes=TWO_NODES, pci__1__numa_node=1),
        wished(serve_gpu_shares=(0.5, 0.4), serve_host="0.0.0.0"),
    ),
    "2x4090-tensor-parallel": (survey("rtx4090", "rtx4090"), wished(gib=30, serve_max_model_len=4096)),
}


@pytest.mark.parametrize("name", HOSTS)
def test_a_release_reads_as_in_its_golden_files(name: str) -> None:
    release = rendered(*HOSTS[name])
    place = GOLDEN / name
    for path, file in release.files.items():
        if os.environ.get("REWRITE_GOLDEN"):
            (place / path).parent.mkdir(parents=True, exist_ok=True)
            (place / path).write_text(file.text)
        assert file.text == (place / path).read_text(), path
    assert {str(path.relative_to(place)) for path in place.rglob("*") if path.is_file()} == set(release.files)


def test_no_golden_release_is_left_over() -> None:
    assert {path.name for path in GOLDEN.iterdir()} == set(HOSTS)


@pytest.mark.parametrize("name", HOSTS)
def test_the_same_inputs_give_the_same_release(name: str) -> None:
    assert rendered(*HOSTS[name]) == rendered(*HOSTS[name])


@pytest.mark.parametrize("name", HOSTS)
def test_the_secret_is_in_private_files_alone(name: str) -> None:
    release = rendered(*HOSTS[name])
    for path, file in release.files.items():
        # The manifest holds digests over the key: whoever reads them could guess a weak key at leisure.
        private = path.endswith(".env") or path == "manifest.json"
        assert file.mode == (PRIVATE if private else PUBLIC) == (0o600 if private else 0o644)
        assert ("canary" in file.text) is path.endswith(".env"), path
    assert "canary" not in release.id + release.fingerprint + repr(release.configs)


def test_without_a_key_there_is_none() -> None:
    release = rendered(survey("h100"), wished(key=None, serve_api_key_from=None))
    assert "VLLM_API_KEY" not in release.files["instances/llama-0.env"].text


@pytest.mark.parametrize(
    "change",
    [
        {"serve_options": {"max-num-seqs": 8}},
        {"serve_env": {"NCCL_DEBUG": "INFO"}},
        {"serve_max_model_len": 512},
        {"serve_port": 9000},
        {"serve_host": "0.0.0.0"},
        {"serve_gpu_memory_utilization": 0.9},
        {"serve_shutdown_timeout_s": 30},
        {"key": "another"},
        {"model_name": "other"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_changed_setting_gives_another_release_and_restarts_the_instance(change: dict[str, Any]) -> None:
    before, after = rendered(survey("h100"), wished()), rendered(survey("h100"), wished(**change))
    assert before.id != after.id
    assert before.fingerprint != after.fingerprint
    assert set(before.configs.values()).isdisjoint(after.configs.values())


@pytest.mark.parametrize(
    "change",
    [{"gate_request_timeout_s": 5}, {"report_dir": "elsewhere"}, {"driver_reboot_allowed": False}, {"gpu_count": 1}],
    ids=lambda change: next(iter(change)),
)
def test_a_setting_that_no_server_sees_changes_nothing(change: dict[str, Any]) -> None:
    assert rendered(survey("h100"), wished(**change)) == rendered(survey("h100"), wished())


def test_a_replaced_gpu_restarts_its_own_instance_alone() -> None:
    found = survey("h100", "h100")
    before = rendered(found, wished())
    after = rendered(
        survey("h100", "h100", nvml__gpus__1={**found.nvml.gpus[1].model_dump(), "uuid": uuid(7)}), wished()
    )
    assert before.id != after.id
    assert before.configs["llama-0"] == after.configs["llama-0"]
    assert before.configs["llama-1"] != after.configs["llama-1"]


def test_another_driver_is_another_release_and_no_restart() -> None:
    before, after = rendered(survey("h100"), wished()), rendered(survey("h100"), wished(driver_version="580.178.04"))
    assert before.id != after.id
    assert before.configs == after.configs


def test_another_environment_or_other_weights_restart_the_instance() -> None:
    plan = plan_of(survey("h100"), wished())
    first = render(plan, wished().settings, wished().weights, None, False)
    for change in ({"venv": "ba9876543210"}, {"model": "llama@000000000000"}):
        other = render(dataclasses.replace(plan, **change), wished().settings, wished().weights, None, False)  # type: ignore[arg-type]
        assert first.configs["llama-0"] != other.configs["llama-0"]


def test_false_is_written_as_the_negative_flag_because_vllm_drops_it() -> None:
    found = options(
        rendered(survey("h100"), wished(serve_options={"enable-prefix-caching": False, "async-scheduling": True}))
    )
    assert "enable-prefix-caching" not in found
    assert found["no-enable-prefix-caching"] is True
    assert found["async-scheduling"] is True


def test_a_negated_negative_flag_is_positive() -> None:
    found = options(rendered(survey("h100"), wished(serve_options={"no-enable-prefix-caching": False})))
    assert found["enable-prefix-caching"] is True
    assert "no-enable-prefix-caching" not in found


def test_a_default_of_ours_can_be_turned_off() -> None:
    found = options(rendered(survey("h100"), wished(serve_options={"disable-fastapi-docs": False})))
    assert "disable-fastapi-docs" not in found


@settings(max_examples=30)
@given(st.dictionaries(NAME, VALUE, max_size=5))
def test_whatever_is_planned_no_option_is_false_or_null_and_every_text_survives(wished_options: dict[str, Any]) -> None:
    plan = plan_of(survey("h100"), wished())
    planned = tuple(Setting(name=name, value=value, reason="", origin="user") for name, value in wished_options.items())
    instance = dataclasses.replace(plan.instances[0], settings=planned)
    release = render(dataclasses.replace(plan, instances=(instance,)), wished().settings, wished().weights, None, False)
    found = options(release)
    assert False not in [value for value in found.values() if isinstance(value, bool)]
    assert None not in found.values()
    for name, value in wished_options.items():
        if not isinstance(value, bool):
            assert found[name] == value


@settings(max_examples=30)
@given(st.dictionaries(st.from_regex(r"\A[A-Z_]{1,9}\Z"), TEXT, max_size=4))
def test_every_variable_is_one_that_the_instance_gets(variables: dict[str, str]) -> None:
    wish = wished(serve_env=variables)
    plan = plan_of(survey("h100"), wish)
    pairs = dict(environment(plan, wish.settings, plan.instances[0], wish.api_key))
    assert variables.items() <= pairs.items()
    assert pairs["VLLM_API_KEY"] == CANARY


def test_the_server_waits_for_its_engine_as_long_as_the_gate_does() -> None:
    def patience(**changes: Any) -> str | None:
        wish = wished(**changes)
        plan = plan_of(survey("h100"), wish)
        name = "VLLM_ENGINE_READY_TIMEOUT_S"
        return dict(environment(plan, wish.settings, plan.instances[0], None)).get(name)

    assert patience(gate_start_timeout_s=3000) == "3000"
    assert patience(gate_start_timeout_s=600) is None
    assert patience(serve_env={"VLLM_ENGINE_READY_TIMEOUT_S": "77"}) == "77"


def test_an_instance_sees_its_own_gpus_by_uuid_alone() -> None:
    release = rendered(survey("h100", "h100"), wished())
    for number in (0, 1):
        text = release.files[f"instances/llama-{number}.env"].text
        assert f'CUDA_VISIBLE_DEVICES="{uuid(number)}"' in text
        assert uuid(1 - number) not in text


def test_a_process_can_be_asked_what_it_was_started_with() -> None:
    release = rendered(survey("h100", "h100"), wished())
    for name, config in release.configs.items():
        assert f'RACKHAND_CONFIG="{config}"' in release.files[f"instances/{name}.env"].text


def test_an_instance_of_several_gpus_says_so_and_one_of_one_does_not() -> None:
    assert options(rendered(*HOSTS["2x4090-tensor-parallel"]))["tensor-parallel-size"] == 2
    assert "tensor-parallel-size" not in options(rendered(*HOSTS["1xH100"]))


def test_an_instance_is_pinned_to_the_cpus_beside_its_gpus_where_there_are_several_nodes() -> None:
    files = rendered(*HOSTS["2xH100-two-nodes-shared"]).files
    pinned = {name: files[f"vllm@{name}.service.d/rackhand.conf"].text for name in ("llama-0", "llama-2")}
    assert "CPUAffinity=0-31\n" in pinned["llama-0"]
    assert "CPUAffinity=32-63\n" in pinned["llama-2"]
    assert not rendered(*HOSTS["2x4090"]).drop_ins


def test_an_instance_that_shares_gpus_waits_for_the_one_before_it() -> None:
    release = rendered(*HOSTS["2xH100-two-nodes-shared"])
    first, second = (release.files[f"vllm@llama-{number}.service.d/rackhand.conf"].text for number in (0, 1))
    assert "ExecStartPre" not in first
    assert "After=vllm@llama-0.service\n" in second
    assert "follow.py vllm@llama-0.service http://127.0.0.1:8000/health" in second
    assert "follow.py" in release.files
    assert "follow.py" not in rendered(*HOSTS["2x4090"]).files


def test_other_cpus_restart_the_instance_that_they_are_beside_alone() -> None:
    moved = [TWO_NODES[0], {**TWO_NODES[1], "cpus": "32-47"}]
    before = rendered(survey("h100", "h100", nodes=TWO_NODES, pci__1__numa_node=1), wished())
    after = rendered(survey("h100", "h100", nodes=moved, pci__1__numa_node=1), wished())
    assert before.id != after.id
    assert [name for name in before.configs if before.configs[name] != after.configs[name]] == ["llama-1"]


def test_the_unit_starts_vllm_with_its_config_as_two_words() -> None:
    unit = rendered(*HOSTS["1xH100"]).files["vllm@.service"].text
    assert "vllm serve --config /opt/rackhand/current/instances/%i.yaml\n" in unit
    assert "--config=" not in unit


def test_the_fabric_manager_is_wanted_where_there_are_switches() -> None:
    plan = plan_of(survey("h100"), wished())
    wish = wished()
    units = [
        render(plan, wish.settings, wish.weights, None, fabric).files["vllm@.service"].text for fabric in (False, True)
    ]
    assert ["nvidia-fabricmanager" in unit for unit in units] == [False, True]
