"""The lines of a run's table about memory: what the started engines reported, and what had been predicted. Pure."""

from collections.abc import Iterator, Sequence

from rackhand.naming import some
from rackhand.outcome import HostOutcome
from rackhand.terminal import clean

NAMED = 5


def memory_lines(hosts: Sequence[HostOutcome]) -> Iterator[str]:
    """Yield a line for every different answer of the engines that were started, with those that gave it."""
    answers: dict[str, list[str]] = {}
    for host in hosts:
        for instance in host.instances:
            if instance.memory is not None and instance.ready_s is not None and instance.memory.words:
                answers.setdefault(instance.memory.words, []).append(f"{host.name} {instance.name}")
    for words, names in answers.items():
        yield clean(f"{words} ({some(names, NAMED)})")
