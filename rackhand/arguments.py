"""Refuse command lines on which pyinfra would do nothing and exit 0.

pyinfra 3.10 only warns about a mistyped inventory path, an inventory without hosts and a `--limit` without a match: the
run ends with zero hosts and exit status 0, which a script takes for success. `config.py` calls `check` before all that.
"""

import difflib
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch

from rackhand.errors import RackhandError
from rackhand.naming import some

# pyinfra's options that take a value; a test compares them with pyinfra's own.
SECRET_OPTIONS = frozenset({"--ssh-password", "--password", "--ssh-key-password", "--key-password"})
VALUE_OPTIONS = SECRET_OPTIONS | {
    "--limit", "--exclude", "--fail-percent", "--data", "--group-data", "--config", "--chdir", "--parallel",
    "--sudo-user", "--su-user", "--dzdo-user", "--shell-executable", "--retry", "--retry-delay",
    "--ssh-user", "--user", "--ssh-port", "--port", "--ssh-key", "--key",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What a command line selects: an inventory and patterns of hosts, as (option, pattern)."""

    inventory: str | None
    patterns: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """The hosts of an inventory and its groups that have any, as pyinfra sees them."""

    hosts: frozenset[str]
    groups: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def matching(self, pattern: str) -> frozenset[str]:
        """Return the hosts that pyinfra finds: a group by its exact name, or else hosts by a glob."""
        found = self.groups.get(pattern)
        return found if found is not None else frozenset(name for name in self.hosts if fnmatch(name, pattern))


def check(
    argv: Sequence[str],
    exists: Callable[[str], bool],
    fleet: Callable[[str], Fleet],
    inventories: Sequence[str] = (),
) -> None:
    """Check the words after `pyinfra`; paths are relative to the directory that pyinfra works in.

    `fleet` loads an inventory, `inventories` are existing files to suggest.
    Raises RackhandError `directory`, `inventory` or `limit`.
    """
    selection = parse(argv)
    if selection.inventory is None:
        return
    if not exists("group_data/all.py"):
        raise RackhandError(
            "directory",
            "group_data/ is not here: pyinfra would silently go on without any setting",
            "this directory",
            "change to the rackhand checkout first, or give pyinfra --chdir",
        )
    _check_inventory(selection.inventory, exists, inventories)
    _check_patterns(selection, fleet(selection.inventory))


def parse(argv: Sequence[str]) -> Selection:
    """Read the inventory and the patterns as click does: options may stand anywhere before `--`."""
    inventory: str | None = None
    patterns: list[tuple[str, str]] = []
    words = iter(argv)
    for word in words:
        if word == "--":
            break
        option, has_value, value = word.partition("=")
        if word.startswith("--") and option in VALUE_OPTIONS:
            value = value if has_value else next(words, "")
            patterns += [(option, value)] if option in ("--limit", "--exclude") else []
        elif not word.startswith("-") and inventory is None:
            inventory = word
    return Selection(inventory=inventory, patterns=tuple(patterns))


def command_line(argv: Sequence[str]) -> str:
    """Return a command line as text for logs and reports, with the values of password options left out."""
    words: list[str] = []
    hide = False
    for word in argv:
        option, has_value, _ = word.partition("=")
        secret = option in SECRET_OPTIONS
        words.append("***" if hide else f"{option}=***" if secret and has_value else shlex.quote(word))
        hide = secret and not has_value
    return " ".join(words)


def _check_inventory(inventory: str, exists: Callable[[str], bool], inventories: Sequence[str]) -> None:
    if exists(inventory) or "@" in inventory or "," in inventory:
        return
    short = f"inventory/{inventory}.py"
    if not (inventory.endswith(".py") or "/" in inventory or short in inventories):
        return
    near = [short] if short in inventories else difflib.get_close_matches(inventory, inventories, n=1, cutoff=0.5)
    step = f"did you mean {near[0]}?" if near else f"choose one of {some(inventories, 8) or 'your inventory files'}"
    raise RackhandError("inventory", f"there is no file {inventory}", "inventory", step)


def _check_patterns(selection: Selection, fleet: Fleet) -> None:
    if not fleet.hosts:
        step = "give a file of inventory/, or the name of a host that resolves"
        raise RackhandError("inventory", f"{selection.inventory} names no host", "inventory", step)
    for option, pattern in selection.patterns:
        if not fleet.matching(pattern):
            raise _no_match(option, pattern, fleet)
    limits = [fleet.matching(pattern) for option, pattern in selection.patterns if option == "--limit"]
    excluded = [fleet.matching(pattern) for option, pattern in selection.patterns if option == "--exclude"]
    if not (frozenset().union(*limits) if limits else fleet.hosts).difference(*excluded):
        raise RackhandError("limit", "no host is left", "--exclude", "exclude fewer hosts, or widen --limit")


def _no_match(option: str, pattern: str, fleet: Fleet) -> RackhandError:
    names = list(dict.fromkeys([*sorted(fleet.groups), *sorted(fleet.hosts)]))
    near = difflib.get_close_matches(pattern, names, n=1)
    step = f"did you mean {near[0]}?" if near else f"choose among {some(names, 8)}"
    return RackhandError("limit", f"'{pattern}' matches no host and no group", option, step)
