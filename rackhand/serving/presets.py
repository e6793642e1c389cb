"""Apply a preset: its rules of serving.yaml whose conditions hold, as settings with reasons; and what it leaves out."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from rackhand.catalog import engine
from rackhand.catalog.memory import memory_book
from rackhand.catalog.serving import Rule, When, serving_book
from rackhand.catalog.vllm_options import option_table
from rackhand.fitting.defaults import batch_defaults
from rackhand.fitting.terms import Device
from rackhand.models.spec import Attention
from rackhand.plan import Setting
from rackhand.serving import options
from rackhand.serving.resolve import fp8_from
from rackhand.serving.terms import Case


@dataclass(frozen=True, kw_only=True)
class Applied:
    """What a preset sets, and sentences about what it would have set."""

    settings: tuple[Setting, ...] = ()
    left_out: tuple[str, ...] = ()


def apply(case: Case) -> Applied:
    """Return the settings of the case's preset; an option that the user gave is left to the user."""
    settings, left_out = [], []
    for rule in serving_book().rules:
        if case.ask.preset not in rule.presets or options.given(case.ask.options, rule.option):
            continue
        against = _against(rule, case)
        if against:
            left_out.append(against)
            continue
        value = _value(rule, case)
        if value is not None:
            settings.append(Setting(name=rule.option, value=value, reason=_reason(rule, case), origin="preset"))
    return Applied(settings=tuple(settings), left_out=tuple(filter(str.strip, left_out)))


def _against(rule: Rule, case: Case) -> str:
    """Return why a rule does not apply, in words worth saying; a blank where it is not worth a word."""
    match rule.when:
        case When.FP8_WEIGHTS:
            return next(_against_fp8_weights(case), "")
        case When.FP8_CACHE:
            return next(_against_fp8_cache(case), "")
        case When.FP8_CACHE_AND_WEIGHTS:
            return next(_against_fp8_cache_alone(case), "")
        case _ if rule.option not in option_table(case.ask.version).names:
            return f"{rule.option}: vLLM {case.ask.version} does not have it"
        case _:
            return ""


def _against_fp8_weights(case: Case) -> Iterator[str]:
    spec, ask = case.spec, case.ask
    if spec.quantization is not None:
        yield " "
    least = fp8_from(ask.version)
    if case.device.capability < least:
        yield (
            f"fp8 weights: {case.device.card} has compute capability {options.dotted(case.device.capability)}, "
            f"fp8 arithmetic begins at {options.dotted(least)}"
        )
    if not ask.allow_fp8:
        yield (
            "serve_allow_fp8 = True would bring fp8 weights: half the bytes of the linear layers, faster steps, a "
            "slight loss of precision"
        )


def _against_fp8_cache(case: Case) -> Iterator[str]:
    spec, ask = case.spec, case.ask
    if spec.quantization is not None and spec.quantization.kv_cache_bits is not None:
        yield " "
    kinds = {group.attention for group in spec.groups if group.layers}
    if Attention.MLA in kinds or kinds <= {Attention.STATE}:
        yield " "
    least = serving_book().fp8_cache.capability
    if case.device.capability < least:
        yield (
            f"fp8 KV cache: {case.device.card} has compute capability {options.dotted(case.device.capability)}, "
            f"fp8 arithmetic begins at {options.dotted(least)}"
        )
    if not ask.allow_fp8_cache:
        yield (
            "serve_allow_fp8_kv = True would bring an fp8 KV cache: twice the tokens in the same memory, a slight "
            "loss of precision"
        )


def _against_fp8_cache_alone(case: Case) -> Iterator[str]:
    yield from _against_fp8_cache(case)
    plain = case.spec.quantization is None and not options.given(case.ask.options, "quantization")
    if plain and any(_against_fp8_weights(case)):
        yield "fp8 KV cache: beside 16-bit weights it costs throughput (measured), so it waits for fp8 weights"


def _value(rule: Rule, case: Case) -> bool | int | float | str | None:
    """Return what a rule sets here, None where it would change nothing."""
    if rule.when is When.LOWER:
        default, _ = batch_defaults(case.ask.version, case.device, case.spec.max_context)
        return rule.value if isinstance(rule.value, int) and rule.value < default else None
    if rule.when is When.ROOM:
        return _share(rule, case)
    return rule.value


def _share(rule: Rule, case: Case) -> float | None:
    """Return the larger share of an idle card that nobody decided about."""
    decided = case.ask.gpu_memory_utilization is not None or case.ranks.share is not None
    if decided or case.device.free_mib is not None or not isinstance(rule.value, float):
        return None
    share = min(rule.value, largest_share(case.device))
    return share if share > engine(case.ask.version).gpu_memory_utilization else None


def largest_share(device: Device) -> float:
    """Return the largest share of a card, in hundredths, that keeps room for what is not charged to the share.

    Where other processes hold memory, it is the share of what is free before the start.
    """
    free_mib = device.total_mib if device.free_mib is None else min(device.free_mib, device.total_mib)
    return math.floor(max(0.0, free_mib - serving_book().spare.mib) / device.total_mib * 100) / 100


def equal_share(device: Device, count: int) -> float:
    """Return the largest share of a card, in hundredths, that `count` instances can have each, contexts beside it."""
    free_mib = device.total_mib if device.free_mib is None else min(device.free_mib, device.total_mib)
    return math.floor(max(0.0, free_mib / count - memory_book().context.mib) / device.total_mib * 100) / 100


def _reason(rule: Rule, case: Case) -> str:
    if rule.when not in (When.FP8_CACHE, When.FP8_CACHE_AND_WEIGHTS):
        return rule.reason
    backend = {9: "FlashAttention 3", 10: "FlashInfer"}.get(case.device.capability[0], "FlashInfer or Triton")
    return f"{rule.reason}; attention runs on {backend}"
