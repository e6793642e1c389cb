"""The checks of what a user asks of `vllm serve`: what its parser would say, and what it would say only later."""

import difflib
from collections.abc import Mapping
from typing import Any

from rackhand.catalog.option_values import as_number, takes, wanted
from rackhand.catalog.ranges import Order, range_book
from rackhand.catalog.retired import instead, retired_book, retired_option, retired_value
from rackhand.catalog.vllm import quantizations
from rackhand.catalog.vllm_options import Kind, Option, OptionTable, known_series, number, option_row, option_table
from rackhand.outcome import Problem


def check_options(version: str, options: Mapping[str, Any], where: str = "serve_options") -> list[Problem]:
    """Return everything that vLLM `version` would refuse in `options`; names with dashes or underscores.

    Raises RackhandError `unknown-engine` for a version that is not in the catalogue.
    """
    table = option_table(version)
    named = {_plain(name): value for name, value in options.items()}
    problems = [
        problem
        for name, value in named.items()
        for problem in _one(table, version, name, value, f"{where} {name}".strip())
    ]
    return [*problems, *_twice(table, named, where), *_orders(table, named, where)]


def check_variables(version: str, variables: Mapping[str, Any], where: str = "serve_env") -> list[Problem]:
    """Return the environment variables that vLLM `version` no longer reads."""
    series = option_table(version).series
    return [
        Problem(
            code="retired-variable",
            what=f"vLLM {version} does not read this variable",
            where=f"{where} {row.name}",
            next_step=instead(row.use),
        )
        for row in retired_book().variables
        if row.name in variables and row.gone_in(series)
    ]


def deprecations(version: str, options: Mapping[str, Any]) -> list[str]:
    """Return one sentence for every option that vLLM `version` still takes and will not for long."""
    series, named = option_table(version).series, {_plain(name) for name in options}
    return [
        f"{row.name} is deprecated since vLLM {row.since}: {instead(row.use)}"
        for row in retired_book().deprecated
        if row.name in named and number(series) >= number(row.since)
    ]


def _plain(name: Any) -> str:
    return str(name).strip().removeprefix("--").replace("_", "-")


def _one(table: OptionTable, version: str, name: str, value: Any, where: str) -> list[Problem]:
    option = table.names.get(name)
    if option is None:
        return [] if _dotted(table, name) else [_unknown(table, version, name, where)]
    if name in option.off and isinstance(value, bool):
        return []
    if not takes(option, value):
        # A text may be a secret, and its value says nothing about why it is refused.
        shown = f"a {type(value).__name__}" if wanted(option).startswith("text") else _shown(value)
        return [_bad(f"vLLM {version} takes {wanted(option)} here, and not {shown}", where, option)]
    return [*_quantization(table, version, option, value, where), *_range(option, value, where)]


def _dotted(table: OptionTable, name: str) -> bool:
    """Tell whether a name is a key inside an option of JSON, as in compilation-config.mode."""
    option = table.names.get(name.partition(".")[0])
    return "." in name and option is not None and option.kind in (Kind.JSON, Kind.ANY)


def _unknown(table: OptionTable, version: str, name: str, where: str) -> Problem:
    if row := retired_option(name):
        earlier = "" if option_row(name) else " or earlier"
        what = f"vLLM {version} has no option {name}: gone since {row.gone}{earlier}"
        return Problem(code="retired-option", what=what, where=where, next_step=instead(row.use))
    longer = sorted({option.name for full, option in table.names.items() if name and full.startswith(name)})
    if len(longer) == 1:
        what = f"{name} is short for {longer[0]}, which vLLM would accept and rackhand does not"
        return Problem(code="short-option", what=what, where=where, next_step=f"write {longer[0]}")
    near = difflib.get_close_matches(name, table.names, n=1, cutoff=0.75)
    step = f"did you mean {near[0]}?" if near else "remove it, or see the options of this version"
    what = f"vLLM {version} has no option {name or '(empty)'}{_elsewhere(table, name)}"
    return Problem(code="unknown-option", what=what, where=where, next_step=step)


def _elsewhere(table: OptionTable, name: str) -> str:
    row = option_row(name) or option_row(name.removeprefix("no-"))
    if row is None:
        later = [each for each in known_series() if number(each) > number(table.series)]
        came = next((each for each in later if name in option_table(f"{each}.0").names), None)
        return f": it came with {came}" if came else ""
    if row.since and number(table.series) < number(row.since):
        return f": it came with {row.since}"
    return f": it went with {row.until}"


def _quantization(table: OptionTable, version: str, option: Option, value: Any, where: str) -> list[Problem]:
    if option.name != "quantization":
        return []
    known = quantizations(version)
    if row := retired_value(option.name, str(value), table.series):
        what = f"vLLM {version} cannot load {row.value}, which went with {row.gone} or earlier"
        return [Problem(code="retired-option", what=what, where=where, next_step=instead(row.use))]
    if value in known:
        return []
    return [_bad(f"vLLM {version} takes one of {', '.join(known)}, and not {_shown(value)}", where, option)]


def _range(option: Option, value: Any, where: str) -> list[Problem]:
    number_read = as_number(option, value)
    rows = [row for row in range_book().ranges if row.option == option.name]
    return [
        _bad(f"must be {row.words}, and not {_shown(value)}", where, option)
        for row in rows
        if number_read is not None and not row.holds(number_read)
    ]


def _bad(what: str, where: str, option: Option) -> Problem:
    default = "" if option.default is None else f", or leave it out (vLLM's default is {_shown(option.default)})"
    return Problem(code="bad-option", what=what, where=where, next_step=f"correct {option.name}{default}")


def _twice(table: OptionTable, named: Mapping[str, Any], where: str) -> list[Problem]:
    """Find two names of one option, for instance x and no-x: the later of them in the file would win."""
    used: dict[str, list[str]] = {}
    for name in named:
        if name in table.names:
            used.setdefault(table.names[name].name, []).append(name)
    return [
        Problem(
            code="option-twice",
            what=f"{' and '.join(sorted(names))} set the same option",
            where=where,
            next_step="keep one of them",
        )
        for names in used.values()
        if len(names) > 1
    ]


def _orders(table: OptionTable, named: Mapping[str, Any], where: str) -> list[Problem]:
    return [problem for row in range_book().orders if (problem := _order(table, named, row, where)) is not None]


def _order(table: OptionTable, named: Mapping[str, Any], row: Order, where: str) -> Problem | None:
    if row.where is not None and not _says(table, named, row.where):
        return None
    values = [as_number(table.names[name], named[name]) if name in named else None for name in (row.option, row.floor)]
    if values[0] is None or values[1] is None or values[0] >= values[1]:
        return None
    what = f"{row.option} {values[0]:g} is less than {row.floor} {values[1]:g}"
    step = f"set {row.option} to {values[1]:g} or more"
    return Problem(code="batch-below-sequences", what=what, where=where, next_step=step)


def _says(table: OptionTable, named: Mapping[str, Any], name: str) -> bool:
    """Tell whether a flag's negation `no-x` is said, as such or as x: false."""
    option = table.names[name]
    return any(named.get(off) is True for off in option.off) or named.get(option.name) is False


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
