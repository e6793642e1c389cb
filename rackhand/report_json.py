"""The report of a run for programs: JSON with stable fields, and back. Pure."""

import shlex
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import StrEnum
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

from rackhand.arguments import command_line
from rackhand.errors import RackhandError
from rackhand.outcome import HostOutcome, Problem, RunOutcome
from rackhand.verdict import verdict

SCHEMA = "rackhand.report/1"


def to_json(run: RunOutcome) -> dict[str, Any]:
    """Return the report for programs; docs/reference/report.md lists its fields."""
    told = {"schema": SCHEMA, "good": run.good, "verdict": verdict(run), **_told(run)}
    return {**told, "command": command_words(run)}


def command_words(run: RunOutcome) -> str:
    """Return the command line as it was typed, passwords left out."""
    return command_line(shlex.split(run.command))


def from_json(report: Mapping[str, Any], where: str = "the report") -> RunOutcome:
    """Return the run that a report tells of; fields that an older report has not are as if nothing were known.

    Raises RackhandError `report-format` when it is none of ours.
    """
    try:
        if report["schema"] != SCHEMA:
            raise ValueError(f"its schema is {report['schema']!r}")
        run = _read(RunOutcome, report)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = f"this is no report of the schema {SCHEMA}: {error}"
        raise RackhandError("report-format", what, where, "name a file that a run wrote into report_dir") from None
    assert isinstance(run, RunOutcome)
    return run


def problem_json(problem: Problem) -> dict[str, Any]:
    """Return a problem as the report and every other JSON of ours has it."""
    return {field.name: _told(getattr(problem, field.name)) for field in fields(problem)}


def _told(value: Any) -> Any:
    """Turn frozen data into what JSON has; numbers are rounded to three digits."""
    if is_dataclass(value):
        told = {field.name: _told(getattr(value, field.name)) for field in fields(value)}
        return {**told, "changed": value.changed} if isinstance(value, HostOutcome) else told
    if isinstance(value, tuple):
        return [_told(item) for item in value]
    if isinstance(value, StrEnum):
        return str(value)
    return round(value, 3) if isinstance(value, float) else value


def _read(kind: Any, value: Any) -> Any:
    """Turn what JSON has into frozen data of a type, by its annotations."""
    if get_origin(kind) is tuple:
        return tuple(_read(get_args(kind)[0], item) for item in value)
    if NoneType in get_args(kind):
        return None if value is None else _read(get_args(kind)[0], value)
    if is_dataclass(kind) and isinstance(kind, type):
        hints = get_type_hints(kind)
        wanted = [field for field in fields(kind) if field.name in value or field.default is MISSING]
        return kind(**{field.name: _read(hints[field.name], value[field.name]) for field in wanted})
    return _plain(kind, value)


def _plain(kind: type, value: Any) -> Any:
    if issubclass(kind, StrEnum):
        return kind(value)
    numbers = (int, float) if kind is float else kind
    if not isinstance(value, numbers) or (kind is not bool and isinstance(value, bool)):
        raise ValueError(f"{value!r} is no {kind.__name__}")
    return value
