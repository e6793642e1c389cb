"""One error type for everything a user or a broken host can cause.

A RackhandError renders as one line: what happened, where, and what to do next.
"""

from dataclasses import dataclass

from typing_extensions import override


@dataclass(eq=False)
class RackhandError(Exception):
    """Say what went wrong, where, and the next thing to try.

    `code` is stable and documented in docs/reference/errors.md; `evidence` holds quoted lines (journal, apt output).
    """

    code: str
    what: str
    where: str
    next_step: str
    evidence: tuple[str, ...] = ()

    @override
    def __str__(self) -> str:
        return f"{self.where}: {self.what} [{self.code}] → {self.next_step}"


def unreachable(where: str) -> RackhandError:
    """Return what is said of a host that no connection could be made to."""
    next_step = "check the host, its address and your key; then run again"
    return RackhandError("unreachable", "no SSH connection", where, next_step)
