"""Whatever a config.json holds: a spec that adds up, or one clear refusal."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from rackhand.errors import RackhandError
from rackhand.models.config import spec_from_config
from rackhand.models.families import FAMILIES
from rackhand.models.quantization_checks import refuse_quantization
from rackhand.models.spec import ModelSpec
from tests.test_model_specs import PUBLISHED

KEYS = sorted({key for row in PUBLISHED.values() for key in row["config"]} | {"quantization_config", "rope_scaling"})
SCALARS = some.one_of(
    some.none(), some.booleans(), some.integers(), some.floats(), some.text(max_size=8), some.sampled_from([0, -1, 1])
)
ANYTHING = some.recursive(
    SCALARS,
    lambda inner: some.one_of(some.lists(inner, max_size=3), some.dictionaries(some.sampled_from(KEYS), inner)),
    max_leaves=6,
)
QUANTIZATIONS = some.fixed_dictionaries(
    {"quant_method": some.sampled_from(["awq", "gptq", "fp8", "compressed-tensors", "modelopt", "mxfp4", "odd"])},
    optional={
        "bits": some.sampled_from([2, 3, 4, 8]),
        "group_size": some.sampled_from([-1, 16, 32, 48, 128]),
        "sym": some.booleans(),
        "ignore": some.lists(some.sampled_from(["lm_head", "re:.*mlp.*", "re:[", "model.layers.*.self_attn"])),
        "weight_block_size": some.sampled_from([[128, 128], [64, 32], [1]]),
    },
)


def outcome(config: Any, name: str = "m") -> ModelSpec | RackhandError:
    try:
        return spec_from_config(config, name)
    except RackhandError as error:
        return error


def adds_up(found: ModelSpec) -> bool:
    whole = all(part.elements >= 0 and part.bytes >= 0 for part in found.parts)
    return whole and found.parameters > 0 and found.weight_bytes > 0 and found.max_context > 0


@given(family=some.sampled_from(sorted(FAMILIES)), sizes=some.data(), quantization=some.none() | QUANTIZATIONS)
def test_a_sound_config_of_any_family_adds_up(family: str, sizes: Any, quantization: Any) -> None:
    pick = sizes.draw
    heads = pick(some.sampled_from([1, 2, 4, 8, 12]))
    config = {
        "model_type": family,
        "hidden_size": heads * pick(some.sampled_from([16, 64, 128])),
        "num_attention_heads": heads,
        "num_key_value_heads": pick(some.sampled_from([1, heads])),
        "intermediate_size": pick(some.integers(1, 4096)),
        "num_hidden_layers": pick(some.integers(1, 12)),
        "vocab_size": pick(some.integers(1, 300_000)),
        "max_position_embeddings": pick(some.integers(1, 1 << 20)),
        "sliding_window": pick(some.none() | some.integers(0, 4096)),
        "tie_word_embeddings": pick(some.booleans()),
        "quantization_config": quantization,
    }
    config |= {
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 4,
        "linear_key_head_dim": 16,
        "linear_value_head_dim": 16,
    }
    found = outcome(config)

    assert isinstance(found, ModelSpec)
    assert adds_up(found)
    assert sum(group.layers for group in found.groups) == found.layers
    assert found.tied_embeddings == config["tie_word_embeddings"]
    refuse_quantization(found, "0.32.0", (8, 0))


@given(
    name=some.sampled_from(sorted(PUBLISHED)), changes=some.dictionaries(some.sampled_from(KEYS), ANYTHING, max_size=4)
)
def test_any_value_of_any_key_gives_a_spec_or_one_line(name: str, changes: dict[str, Any]) -> None:
    found = outcome({**PUBLISHED[name]["config"], **changes})

    if isinstance(found, RackhandError):
        assert found.code in ("model-config", "model-unsupported")
        assert "\n" not in str(found)
        assert len(str(found)) < 300
    else:
        assert adds_up(found)


@given(quantization=some.dictionaries(some.text(max_size=12), ANYTHING, max_size=4), method=ANYTHING)
def test_any_quantisation_gives_a_spec_or_one_line(quantization: dict[str, Any], method: Any) -> None:
    llama = PUBLISHED["llama-3.2-1b"]["config"]
    found = outcome({**llama, "quantization_config": {**quantization, "quant_method": method}})

    assert isinstance(found, RackhandError) or adds_up(found)


@pytest.mark.parametrize("text", ["null", "[]", "3", '"x"', "{}", '{"text_config": {"text_config": {}}}'])
def test_other_json_than_a_config_is_refused(text: str) -> None:
    assert isinstance(outcome(json.loads(text)), RackhandError)
