"""An answer in words: the table of instances, the bill as a bar, every setting's reason, what else would work."""

import json
from collections.abc import Iterator, Mapping, Sequence

from rackhand.commands.answer import Alternative, Answer, bars, note, shown_gpu, usable_mib
from rackhand.outcome import Problem
from rackhand.picture.bars import Bar, bar
from rackhand.picture.text import draw
from rackhand.plan import Instance, PlannedGpu, Setting
from rackhand.terminal import Terminal

SHORT = ("instance", "GPU", "split", "port", "KV tokens", "sequences")
NUMBERS = ("port", "context", "KV tokens", "sequences", "instances", "up to")


def words(answer: Answer, terminal: Terminal, *, typed: bool = True) -> str:
    """Return everything that a person wants to know, for this terminal.

    `typed` names alternatives as words for the command line of `rackhand fit`, else as settings of a deploy.
    """
    blocks = [
        _head(answer, terminal),
        instance_table(answer.instances, answer.gpus, terminal),
        *(reason_block(problem, terminal) for problem in answer.reasons),
        *(draw(each, terminal) for each in pictured(answer)),
        setting_table(answer.instances, terminal),
        [line for text in answer.words for line in terminal.paragraph(text, "- ", "  ")],
        [line for text in answer.warnings for line in terminal.paragraph(text, "Note: ", "      ")],
        alternative_table(answer.alternatives, terminal, typed=typed),
    ]
    return "\n\n".join("\n".join(block) for block in blocks if block)


def pictured(answer: Answer) -> tuple[Bar, ...]:
    """Return the bars of an answer: one per kind of instance, or the bill of the nearest try."""
    if answer.instances:
        return bars(answer.instances, answer.gpus)
    if answer.forecast is None:
        return ()
    gpu = answer.gpus[0]
    return (bar(f"What one {shown_gpu(gpu)} would hold", note(answer.forecast), answer.forecast, usable_mib(gpu)),)


def _head(answer: Answer, terminal: Terminal) -> list[str]:
    count = len(answer.instances)
    verdict = f"fits, {count} instance{'' if count == 1 else 's'}" if answer.fits else "no plan"
    title = f"{answer.model} on {answer.cards}: {verdict}"
    return [
        *terminal.drawn(terminal.styled(title, "bold green" if answer.fits else "bold red")),
        *terminal.paragraph(" · ".join(_facts(answer))),
    ]


def _facts(answer: Answer) -> Iterator[str]:
    yield f"vLLM {answer.version}"
    yield f"preset {answer.preset}"
    if answer.spec is not None:
        spec = answer.spec
        stored = spec.quantization.method if spec.quantization else spec.dtype
        count = spec.parameters
        yield f"{f'{count / 1e9:.1f}B' if count >= 1e9 else f'{count / 1e6:.1f}M'} parameters, {stored}"
    context = answer.forecast.context if answer.forecast else answer.context
    if isinstance(context, int):
        yield f"context {context:,}"


def instance_table(instances: Sequence[Instance], gpus: Sequence[PlannedGpu], terminal: Terminal) -> list[str]:
    """Draw one row per instance; where that is too wide, what the bars say anyway is left out, then lines do."""
    rows = [_instance_row(instance, gpus) for instance in instances]
    for columns in (tuple(rows[0]), SHORT) if rows else ():
        widths = (max(len(text) for text in (name, *(row[name] for row in rows))) + 2 for name in columns)
        if sum(widths) <= terminal.width:
            return terminal.table(columns, [[row[name] for name in columns] for row in rows], NUMBERS)
    return [line for row in rows for line in terminal.paragraph(_told(row), later="  ")]


def _instance_row(instance: Instance, gpus: Sequence[PlannedGpu]) -> dict[str, str]:
    forecast = instance.forecast
    context = forecast.context if forecast else instance.max_model_len
    return {
        "instance": instance.name,
        "GPU": _positions(instance.gpus),
        "card": shown_gpu(gpus[instance.gpus[0]]),
        "split": _split(instance),
        "port": str(instance.port),
        "context": f"{context:,}" if context else "?",
        "KV tokens": f"{forecast.kv_tokens:,}" if forecast else "?",
        "sequences": f"{forecast.sequences:,.1f}" if forecast else "?",
    }


def _told(row: Mapping[str, str]) -> str:
    name, *facts = (row[column] for column in SHORT)
    return f"{name}: " + ", ".join(f"{column} {text}" for column, text in zip(SHORT[1:], facts, strict=True))


def _positions(positions: Sequence[int]) -> str:
    joined = list(positions) == list(range(positions[0], positions[-1] + 1)) and len(positions) > 2
    return f"{positions[0]}\N{EN DASH}{positions[-1]}" if joined else ",".join(map(str, positions))


def _split(instance: Instance) -> str:
    sizes = (("TP", instance.tensor_parallel_size), ("PP", instance.pipeline_parallel_size))
    share = [f"{instance.share:.0%} share"] if instance.share is not None else []
    return " ".join([*(f"{name} {size}" for name, size in sizes if size > 1), *share]) or "\N{EN DASH}"


def reason_block(problem: Problem, terminal: Terminal) -> list[str]:
    """Say why there is no plan and what to do next."""
    return [
        *terminal.paragraph(f"{problem.what} [{problem.code}]", "No: ", "    "),
        *terminal.paragraph(problem.next_step, "    → ", "      "),
        *(terminal.say(f"    │ {line}") for line in problem.evidence),
    ]


def setting_table(instances: Sequence[Instance], terminal: Terminal) -> list[str]:
    """Draw every setting that differs from vLLM's default with its reason; instances that agree share a table."""
    groups: list[tuple[tuple[Setting, ...], list[str]]] = []
    for instance in instances:
        names = next((names for settings, names in groups if settings == instance.settings), None)
        if names is None:
            groups.append((instance.settings, [instance.name]))
        else:
            names.append(instance.name)
    tables = ["\n".join(_settings(settings, names, len(groups), terminal)) for settings, names in groups]
    return ["\n\n".join(tables)] if tables else []


def _settings(settings: Sequence[Setting], names: Sequence[str], groups: int, terminal: Terminal) -> Iterator[str]:
    if groups > 1:
        yield from terminal.paragraph(f"Settings of {', '.join(names)}:")
    if not settings:
        yield "Every setting is vLLM's own default."
        return
    rows = [(setting.name, _value(setting.value), f"{setting.reason} ({setting.origin})") for setting in settings]
    yield from terminal.table(("setting", "value", "why it is not vLLM's default"), rows)


def _written(alternative: Alternative, typed: bool) -> str:
    settings = ", ".join(f"{name} = {value!r}" for name, value in alternative.settings.items())
    return " ".join(alternative.arguments) if typed else settings or "other GPUs"


def _value(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def alternative_table(alternatives: Sequence[Alternative], terminal: Terminal, *, typed: bool) -> list[str]:
    """Draw what else would work, as it is written."""
    if not alternatives:
        return []
    columns = ("to get a plan, give" if typed else "to get a plan, set", "instances", "KV tokens", "up to", "that is")
    rows = [
        (_written(each, typed), str(each.instances), f"{each.kv_tokens:,}", f"{each.max_context:,}", each.what)
        for each in alternatives
    ]
    return terminal.table(columns, rows, NUMBERS)
