"""The report of a run: one table and its reasons for people, one JSON file with stable fields for programs."""

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rackhand.errors import RackhandError
from rackhand.health.telling import before, placed
from rackhand.naming import some
from rackhand.outcome import HostOutcome, Problem, RunOutcome, Severity
from rackhand.report_json import to_json
from rackhand.report_memory import memory_lines
from rackhand.report_table import overview
from rackhand.report_turns import turn_lines, untouched, wave_lines
from rackhand.terminal import clean
from rackhand.verdict import verdict

MOST_NAMES = 8


def table(run: RunOutcome, width: int, colour: bool = False) -> str:
    """Return the table of a run, the reasons of every host that did not get there, and the verdict.

    The table is at most `width` columns wide; `colour` adds terminal codes, so leave it out for a file or a pipe.
    """
    left = untouched(run)
    shown = [host for host in run.hosts if host not in left]
    told = [*memory_lines(run.hosts), *_warning_lines(run.hosts), *_finding_lines(run.hosts)]
    reasons = [list(_reason_lines(hosts)) for hosts in _alike(shown)]
    blocks = [overview(shown, width, colour) if shown else [], list(turn_lines(run)), told, *reasons, [verdict(run)]]
    return "\n\n".join(["\n".join(block) for block in blocks if block])


def plan_text(run: RunOutcome) -> str:
    """Return the plan of every host in words, or the reasons why it has none, and the verdict."""
    blocks = [*(_plan_lines(host) for host in run.hosts), list(_finding_lines(run.hosts)), wave_lines(run)]
    return "\n\n".join(["\n".join(block) for block in [*blocks, [verdict(run)]] if block])


@dataclass(frozen=True, kw_only=True)
class Written:
    """Where a report is; `page` is None where it could not be made, `trouble` says why then."""

    path: Path
    page: Path | None
    trouble: str = ""

    @property
    def words(self) -> str:
        return f"{self.path}, {self.page}" if self.page else f"{self.path} (no page: {self.trouble})"


def write(run: RunOutcome, directory: Path) -> Written:
    """Write the report to `<run id>.json` and `<run id>.html` and point `latest` at each, every file in one step.

    Raises RackhandError `report` when the directory cannot be written. A page that cannot be made is no error: what
    programs read is there by then.
    """
    path = directory / f"{run.run}.json"
    text = json.dumps(to_json(run), indent=2, ensure_ascii=False) + "\n"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        _replace(path, lambda new: _write_text(new, text))
        _replace(directory / "latest.json", lambda new: new.symlink_to(path.name))
    except OSError as error:
        what = f"the report cannot be written: {error.strerror}"
        raise RackhandError("report", what, str(path), "set report_dir to a directory that you can write") from None
    try:
        return Written(path=path, page=_write_page(run, path.with_suffix(".html")))
    except Exception as error:
        with contextlib.suppress(OSError):
            # It would show another run than latest.json.
            (directory / "latest.html").unlink(missing_ok=True)
        return Written(path=path, page=None, trouble=clean(f"{type(error).__name__}: {error}"))


def write_page(run: RunOutcome, path: Path) -> None:
    """Write the page of a run, in one step; raises OSError."""
    from rackhand.page.page import render

    text = render(run)
    _replace(path, lambda new: _write_text(new, text))


def _write_page(run: RunOutcome, path: Path) -> Path:
    write_page(run, path)
    _replace(path.with_name("latest.html"), lambda new: new.symlink_to(path.name))
    return path


def _replace(path: Path, make: Callable[[Path], object]) -> None:
    """Make a file under a name of its own and rename it, so that no reader ever sees half of it."""
    new = path.with_name(f".{path.name}.{os.getpid()}")
    new.unlink(missing_ok=True)
    try:
        make(new)
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)


def _write_text(path: Path, text: str) -> None:
    # Half a surrogate pair may come from a host, and must not cost the report.
    path.write_text(text, encoding="utf-8", errors="replace")
    path.chmod(0o644)


def _warning_lines(hosts: Sequence[HostOutcome]) -> Iterator[str]:
    yield from (f"warning: {_line([host], warning)}" for host in hosts for warning in host.warnings)


def _finding_lines(hosts: Sequence[HostOutcome]) -> Iterator[str]:
    """Yield what ails GPUs and blocks nothing, the same of several hosts once; what blocks is a host's reason."""
    places: dict[tuple[str, str, str, str], list[str]] = {}
    for each in placed([finding for host in hosts for finding in host.findings if not finding.blocks]):
        if each.severity is not Severity.INFO:
            places.setdefault((before(each), each.what, each.code, each.next_step), []).append(each.where)
    for (weight, what, code, step), where in places.items():
        yield clean(f"{weight}{some(where, MOST_NAMES)}: {what} [{code}] → {step}")


def _alike(hosts: Sequence[HostOutcome]) -> list[list[HostOutcome]]:
    """Put those together that have the same reasons, word for word, so that a fleet's one mistake is told once."""
    alike: dict[tuple[Problem, ...], list[HostOutcome]] = {}
    for host in hosts:
        if host.problems:
            reasons = tuple(replace(each, where=each.where.replace(host.name, "")) for each in host.problems)
            alike.setdefault(reasons, []).append(host)
    return list(alike.values())


def _line(hosts: Sequence[HostOutcome], problem: Problem) -> str:
    """Say what is wrong with one host, or with several alike; `problem` is that of the first."""
    first, all_names = hosts[0].name, some([host.name for host in hosts], MOST_NAMES)
    where = problem.where if first in problem.where else f"{first}, {problem.where}"
    return clean(f"{where.replace(first, all_names, 1)}: {problem.what} [{problem.code}] → {problem.next_step}")


def _reason_lines(hosts: Sequence[HostOutcome]) -> Iterator[str]:
    for problem in hosts[0].problems:
        yield _line(hosts, problem)
        yield from (f"  │ {clean(line)}".rstrip() for line in problem.evidence)


def _plan_lines(host: HostOutcome) -> list[str]:
    words = [f"  - {clean(words)}" for words in host.plan]
    return [f"{clean(host.name)}: {host.status}", *words, *(f"  {line}" for line in _reason_lines([host]))]
