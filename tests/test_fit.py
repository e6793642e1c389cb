"""`rackhand fit`: every question gets a plan (0), a refusal with what works (2), or one clear line (1)."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rackhand import cli
from rackhand.arrangement import Arrangement, arrange
from rackhand.commands import answering, asking, fit, paper
from rackhand.commands.question import Question, number, options, value
from rackhand.errors import RackhandError
from rackhand.models.find import find
from tests.surveys import CONFIG

LLAMA = {
    **CONFIG,
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "intermediate_size": 14336,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "torch_dtype": "bfloat16",
    "tie_word_embeddings": False,
    "rope_theta": 500000.0,
}
TERMS = ["weights", "activation", "cuda_graphs", "non_torch", "other_processes", "kv_cache"]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Return a directory that holds only the config.json of Llama 3.1 8B."""
    directory = tmp_path / "llama-8b"
    directory.mkdir()
    (directory / "config.json").write_text(json.dumps(LLAMA))
    return directory


class Asked:
    """Runs the command and keeps what it said."""

    def __init__(self, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.model, self.capsys = model, capsys

    def __call__(self, *words: str, gpu: str = "H100-SXM-80GB") -> tuple[int, str, str]:
        status = cli.main(["fit", str(self.model), "--gpu", gpu, *words])
        said = self.capsys.readouterr()
        return status, said.out, said.err

    def json(self, *words: str, gpu: str = "H100-SXM-80GB") -> dict[str, Any]:
        status, out, _ = self(*words, "--json", gpu=gpu)
        found: dict[str, Any] = json.loads(out)
        assert status == (0 if found["fits"] else 2)
        return found


@pytest.fixture
def ask(model: Path, capsys: pytest.CaptureFixture[str]) -> Asked:
    return Asked(model, capsys)


def test_a_directory_with_nothing_but_a_config_gets_a_plan(ask: Asked) -> None:
    status, out, err = ask(gpu="2xH100-SXM-80GB")
    assert (status, err) == (0, "")
    assert out.startswith("llama-8b on 2\N{MULTIPLICATION SIGN} H100 SXM5 80GB: fits, 2 instances\n")
    assert "joined by NVSwitches" in out


def test_a_model_of_the_catalogue_gets_a_plan(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["fit", "qwen3-8b", "--gpu", "L40S", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["model"]["name"] == "qwen3-8b"
    assert len(found["model"]["revision"]) == 40


def test_the_fields_of_the_answer_are_those_of_the_reference(ask: Asked) -> None:
    found = ask.json()
    page = (Path(__file__).parent.parent / "docs/reference/fit.md").read_text()
    assert [field for field in found if f"| `{field}` |" not in page] == []
    nested = {
        "model": found["model"],
        "gpus[]": found["gpus"][0],
        "instances[]": found["instances"][0],
        "bill[]": found["bill"][0],
        "alternatives[]": ask.json(gpu="T4")["alternatives"][0],
        "settings[]": ask.json("--set", "enforce_eager=true")["settings"][0],
        "reasons[]": ask.json(gpu="T4")["reasons"][0],
    }
    missing = [f"{place}.{field}" for place, row in nested.items() for field in row if f"`{place}.{field}`" not in page]
    assert missing == []


def test_the_schema_keeps_its_fields_and_types(ask: Asked) -> None:
    kinds = {name: type(item) for name, item in ask.json().items()}
    assert kinds == {
        "schema": str, "fits": bool, "model": dict, "gpu": str, "gpus": list, "vllm": str, "preset": str,
        "context": int, "kv_tokens": int, "max_context": int, "weights_mib": float, "allowed_mib": float,
        "memory": dict, "bill": list, "instances": list, "settings": list, "layout": list, "reasons": list,
        "alternatives": list, "warnings": list,
    }  # fmt: skip
    refused = {name: type(item) for name, item in ask.json(gpu="T4").items()}
    assert refused == kinds


def test_the_bill_adds_up_to_what_is_allowed(ask: Asked) -> None:
    found = ask.json()
    assert list(found["memory"]) == TERMS
    charged = sum(mib for name, mib in found["memory"].items() if name != "other_processes")
    assert charged == pytest.approx(found["allowed_mib"], abs=1)
    assert found["weights_mib"] == found["memory"]["weights"]
    assert [term["mib"] for term in found["bill"]] == list(found["memory"].values())
    assert all(term["formula"] and term["source"] for term in found["bill"])


def test_tokens_follow_from_the_cache(ask: Asked) -> None:
    found = ask.json()
    assert found["kv_tokens"] == pytest.approx(found["memory"]["kv_cache"] * 8, rel=0.01)  # 128 KiB per token
    assert found["max_context"] == 131_072


@pytest.mark.parametrize(
    ("word", "name", "emitted"),
    [
        ("gpu_memory_utilization=0.9", "gpu-memory-utilization", 0.9),
        ("enforce_eager=true", "enforce-eager", True),
        ("max_num_batched_tokens=2048", "max-num-batched-tokens", 2048),
        ("kv_cache_dtype=fp8", "kv-cache-dtype", "fp8"),
        ("quantization=fp8", "quantization", "fp8"),
        ("dtype=half", "dtype", "half"),
        ("max_num_seqs=128", "max-num-seqs", 128),
        ("block_size=16", "block-size", 16),
        ("max-model-len=8192", "max-model-len", 8192),
    ],
)
def test_every_engine_setting_wins_and_is_emitted_as_the_users(
    word: str, name: str, emitted: object, ask: Asked
) -> None:
    settings = {setting["name"]: setting for setting in ask.json("--set", word)["settings"]}
    assert settings[name]["value"] == emitted
    assert settings[name]["origin"] == "user"
    assert "serve_" not in settings[name]["reason"]


def test_settings_move_memory_the_right_way(ask: Asked) -> None:
    plain = ask.json()
    assert ask.json("--set", "kv_cache_dtype=fp8")["kv_tokens"] == pytest.approx(2 * plain["kv_tokens"], rel=0.01)
    assert ask.json("--set", "quantization=fp8")["weights_mib"] < 0.65 * plain["weights_mib"]
    assert ask.json("--set", "gpu_memory_utilization=0.5")["allowed_mib"] < 0.6 * plain["allowed_mib"]
    assert ask.json("--set", "gpu_memory_utilization=0.3")["fits"] is False
    assert ask.json("--set", "max_num_batched_tokens=2048")["kv_tokens"] > plain["kv_tokens"]


def test_the_context_may_be_given_as_an_option_or_as_a_setting(ask: Asked) -> None:
    for words in (("--context", "8192"), ("--set", "max_model_len=8192"), ("--context", "8K")):
        found = ask.json(*words)
        assert found["context"] == 8192
        assert found["max_context"] == 131_072


def test_tensor_parallel_can_be_asked_for(ask: Asked) -> None:
    found = ask.json("--set", "tensor_parallel_size=2", gpu="2xH100-SXM-80GB")
    assert [each["tensor_parallel_size"] for each in found["instances"]] == [2]
    assert found["instances"][0]["gpus"] == [0, 1]


def test_free_memory_of_the_gpus_can_be_given(ask: Asked) -> None:
    found = ask.json("--free-mib", "40000")
    assert found["fits"] is False
    assert [reason["code"] for reason in found["reasons"]] == ["memory-in-use"]
    assert found["gpus"][0]["free_mib"] == 40_000
    assert found["memory"]["other_processes"] > 0
    shared = ask.json("--free-mib", "40000", "--set", "gpu_memory_utilization=0.45")
    assert shared["fits"] is True


def test_fp8_is_used_only_when_allowed(ask: Asked) -> None:
    without = ask.json("--preset", "throughput")
    allowed = ask.json("--preset", "throughput", "--allow-fp8", "--allow-fp8-kv")
    assert allowed["kv_tokens"] > without["kv_tokens"]
    assert {setting["name"] for setting in allowed["settings"]} >= {"quantization", "kv-cache-dtype"}


@pytest.mark.parametrize("preset", asking.PRESETS)
def test_every_preset_gives_a_plan(preset: str, ask: Asked) -> None:
    assert ask.json("--preset", preset, "--context", "8192")["preset"] == preset


@pytest.mark.parametrize("version", ["0.24.0", "0.26.0", "0.32.0", "0.33.0"])
def test_every_supported_vllm_gives_a_plan(version: str, ask: Asked) -> None:
    for typed in (version, version.removesuffix(".0"), f"v{version}"):
        assert ask.json("--vllm", typed, "--context", "8192")["vllm"] == version


def test_a_mixed_set_is_split_into_groups_of_equal_cards(ask: Asked) -> None:
    found = ask.json("--context", "16384", gpu="2xA100-80GB+2xL4")
    assert [each["gpus"] for each in found["instances"]] == [[0], [1], [2, 3]] or len(found["instances"]) == 4
    status, out, _ = ask("--context", "16384", gpu="2xA100-80GB+2xL4")
    assert status == 0
    assert "L4: taken to be joined by PCIe alone" in out


def test_a_slice_is_refused_with_its_reason_and_the_rest_of_a_set_is_planned(ask: Asked) -> None:
    refused = ask.json("--context", "8192", gpu="7xH100-SXM-80GB-MIG-3g.40gb")
    assert [reason["code"] for reason in refused["reasons"]] == ["mig"]
    assert refused["gpu"] == "7\N{MULTIPLICATION SIGN} H100 SXM5 80GB 3g.40gb"
    assert refused["gpus"][0]["profile"] == "3g.40gb"
    assert 40_000 < refused["gpus"][0]["memory_mib"] < 41_000
    mixed = ask.json("--context", "8192", gpu="A100-80GB:3g.40gb+L40S")
    assert [each["gpus"] for each in mixed["instances"]] == [[1]]
    assert any("MIG" in words for words in mixed["layout"])


def test_fewer_instances_can_be_asked_for(ask: Asked) -> None:
    assert len(ask.json("--instances", "1", gpu="4xH100-SXM-80GB")["instances"]) == 1
    refused = ask.json("--instances", "9", gpu="4xH100-SXM-80GB")
    assert [reason["code"] for reason in refused["reasons"]] == ["too-many-instances"]
    assert "--instances" in refused["reasons"][0]["next_step"]


def test_a_refusal_still_says_everything_that_can_be_computed(ask: Asked) -> None:
    found = ask.json(gpu="L4")
    assert found["fits"] is False
    assert found["instances"] == []
    assert 0 < found["max_context"] < 131_072
    assert found["weights_mib"] > 15_000
    assert list(found["memory"]) == TERMS
    reason = found["reasons"][0]
    assert reason["code"] == "does-not-fit"
    assert "131,072 tokens" in reason["what"]
    assert "--context" in reason["next_step"]


@pytest.mark.parametrize(
    ("gpu", "words"),
    [
        ("L4", ()),
        ("T4", ()),
        ("2xT4", ("--set", "tensor_parallel_size=1")),
        ("T4", ("--instances", "2")),
        ("L4", ("--preset", "throughput")),
        ("V100-SXM2-32GB", ()),
        ("H100-SXM-80GB", ("--set", "gpu_memory_utilization=0.25")),
        ("H100-SXM-80GB", ("--free-mib", "50000")),
    ],
)
def test_every_alternative_really_works_as_it_is_typed(gpu: str, words: tuple[str, ...], ask: Asked) -> None:
    refused = ask.json(*words, gpu=gpu)
    assert refused["alternatives"]
    for other in refused["alternatives"]:
        changed = other["arguments"]
        kept = [word for pair in pairs(words) if not replaces(changed, pair) for word in pair]
        found = ask.json(*kept, *changed, gpu=gpu)  # of two --gpu the last one counts
        assert found["fits"], other
        assert found["kv_tokens"] == other["kv_tokens"]
        assert len(found["instances"]) == other["instances"]


def pairs(words: tuple[str, ...]) -> list[tuple[str, str]]:
    return list(zip(words[::2], words[1::2], strict=True))


def replaces(changed: list[str], pair: tuple[str, str]) -> bool:
    """Tell whether an alternative sets anew what a pair of words set."""
    key = pair[1].partition("=")[0]
    return pair[0] == "--set" and any(word.startswith(f"{key}=") for word in changed)


def test_reasons_of_every_kind_come_at_once(ask: Asked) -> None:
    found = ask.json(
        "--set", "swap_space=4", "--set", "disable_cuda_graph=true", "--set", "quantization=squeezellm", gpu="L4"
    )
    codes = [reason["code"] for reason in found["reasons"]]
    assert codes.count("retired-option") == 3
    assert "does-not-fit" in codes
    assert "enforce-eager" in next(r["next_step"] for r in found["reasons"] if "disable-cuda-graph" in r["what"])


def test_a_card_that_vllm_has_no_kernels_for_is_refused_by_name(ask: Asked) -> None:
    found = ask.json(gpu="V100-SXM2-32GB")
    assert found["reasons"][0]["code"] == "gpu-too-old"
    assert "7.0" in found["reasons"][0]["what"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--gpu", "Voodoo2"), "[unknown-gpu]"),
        (("--gpu", "0xL4"), "[unknown-gpu]"),
        (("--gpu", "L4-MIG-3g.40gb"), "has no slice of 40 GB"),
        (("--gpu", "L4", "--context", "many"), "--context: 'many' is no whole number"),
        (("--gpu", "L4", "--context", "0"), "at least 16"),
        (("--gpu", "L4", "--preset", "latncy"), "did you mean latency?"),
        (("--gpu", "L4", "--vllm", "0.99.0"), "[unknown-engine]"),
        (("--gpu", "L4", "--vllm", "newest"), "exact vLLM version"),
        (("--gpu", "L4", "--set", "enforce_eager"), "is not KEY=VALUE"),
        (("--gpu", "L4", "--set", "=1"), "is not KEY=VALUE"),
        (("--gpu", "L4", "--set", "dtype="), "without a value"),
        (("--gpu", "L4", "--set", "dtype=half", "--set", "dtype=auto"), "given twice"),
        (("--gpu", "L4", "--set", "port=1"), "nothing that a plan is asked for"),
        (("--gpu", "L4", "--set", "gpu_memory_utilization=1.5"), "no share of a GPU's memory"),
        (("--gpu", "L4", "--set", "gpu_memory_utilization=true"), "no share of a GPU's memory"),
        (("--gpu", "L4", "--set", "tensor_parallel_size=two"), "no whole number"),
        (("--gpu", "L4", "--set", "max_model_len=4096", "--context", "4096"), "given twice"),
        (("--gpu", "L4", "--free-mib", "-5"), "no whole number"),
        (("--gpu", "L4", "--instances", "0"), "at least 1"),
        (("--gpu", "L4", "--picture", "bill.pdf"), "SVG or PNG"),
    ],
)
def test_a_question_that_makes_no_sense_is_one_line_and_status_1(
    words: tuple[str, ...], says: str, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["fit", str(model), *words]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert says in said.err


@pytest.mark.parametrize("words", [(), ("--gpu",), ("--nonsense",), ("--gpu", "L4", "more")])
def test_a_command_line_that_makes_no_sense_ends_with_status_1(words: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["fit", "model", *words])
    assert ended.value.code == 1


@pytest.mark.parametrize("name", ["./nowhere", "no-such-model"])
def test_a_model_that_there_is_not_is_status_1(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["fit", name, "--gpu", "L4"]) == 1
    assert capsys.readouterr().err.startswith("rackhand: ")


def test_a_picture_is_drawn_beside_the_answer(tmp_path: Path, ask: Asked) -> None:
    for name, begin in (("bill.svg", b"<svg"), ("bill.png", b"\x89PNG")):
        status, out, _ = ask("--picture", str(tmp_path / name))
        assert status == 0
        assert "KV cache" in out
        assert (tmp_path / name).read_bytes().startswith(begin)


def test_fit_plans_as_the_planner_arranges(model: Path) -> None:
    question = Question(model=str(model), gpu="2xH100-SXM-80GB", version="0.32.0", options={})
    found = answering.answer(question)
    spec = find(str(model))
    made = arrange("", paper.gpus("2xH100-SXM-80GB"), spec, asking.settings_of(question, spec))
    assert isinstance(made, Arrangement)
    assert [(each.forecast, each.settings, each.gpus) for each in found.instances] == [
        (each.forecast, each.settings, each.gpus) for each in made.instances
    ]


@pytest.mark.parametrize(
    ("text", "read"),
    [("true", True), ("False", False), ("0.9", 0.9), ("2048", 2048), ("fp8", "fp8"), ("[1, 2]", [1, 2]), ("8k", "8k")],
)
def test_values_are_read_as_people_mean_them(text: str, read: object) -> None:
    assert value(text) == read
    assert type(value(text)) is type(read)


def test_names_of_settings_may_have_dashes_underscores_or_leading_dashes() -> None:
    assert options(["enforce_eager=true", "--max-num-seqs=8", "dtype = half"]) == {
        "enforce-eager": True,
        "max-num-seqs": 8,
        "dtype": "half",
    }


@pytest.mark.parametrize(("text", "count"), [("32768", 32768), ("32,768", 32768), ("32_768", 32768), ("32k", 32000)])
def test_numbers_are_read_as_people_write_them(text: str, count: int) -> None:
    assert number(text, "--context") == count
    with pytest.raises(RackhandError):
        number(f"{text}x", "--context")


def test_help_names_the_exit_status(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["fit", "--help"])
    assert ended.value.code == 0
    out = capsys.readouterr().out
    assert "exit status: 0 there is a plan, 2 there is none" in out
    assert all(word in out for word in ("--set KEY=VALUE", "--free-mib", "--picture FILE", "--json"))


def test_the_command_line_starts_without_what_only_commands_need() -> None:
    heavy = ("pydantic", "rich", "yaml", "pyinfra", "paramiko", "jinja2", "PIL", "rackhand.lab.fleet")
    code = f"import sys, rackhand.cli; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_exit_statuses_of_the_module_are_those_of_its_help() -> None:
    assert (fit.PLANNED, fit.REFUSED) == (0, 2)
