"""Put dpkg in order after it was cut off (killed, power lost, disk full), so that apt works on the host again."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from rackhand.remote import apt, command, dpkg
from rackhand.remote.problem import Problem

LOG = "dpkg-repair"
ARCHIVES = Path("/var/cache/apt/archives")
# For one package at a time: what does not fit together in between is put right by the transaction that follows.
FORCED = ("--force-depends", "--force-downgrade", "--force-overwrite", "--force-remove-reinstreq", "--force-confold")
CONFIGURE_S = 900
JOURNAL_S = 60
Finds = Callable[[str], "Path | None"]


def mend(family: Sequence[str], file_of: Finds) -> None:
    """Leave no driver's package in a state in which apt refuses to work; the transaction that follows does the rest.

    What was cut off while it was unpacked is unpacked again from `file_of` its name, or goes where there is no file.
    """
    settle()
    for name in (each.name for each in dpkg.here() if each.torn and dpkg.belongs(each.name, family)):
        found = file_of(name)
        if found:
            _dpkg("--unpack", str(found))
        else:
            _dpkg("--remove", name)


def finish(timeout_s: int) -> None:
    """Finish whatever was left unfinished on this host, as it had been meant; raises Problem where that fails."""
    deadline = time.monotonic() + timeout_s
    settle()
    for name in (each.name for each in dpkg.here() if each.torn):
        found = archived(name)
        if found:
            _dpkg("--unpack", str(found))
    if unfinished():
        _configure(deadline)
    if unfinished():
        # Packages of two versions stand beside each other: what is missing of the newer ones has to come.
        arguments = ["--fix-broken", "--no-remove", "--allow-change-held-packages", "install"]
        apt.get(arguments, LOG, _left_s(deadline))
    left = unfinished()
    if left:
        raise stuck(left, command.read(LOG))


def foreign(family: Sequence[str], timeout_s: int) -> None:
    """Finish what another package manager left unfinished; raises Problem where that does not work.

    As long as one such package fails, every later transaction on the host ends as failed.
    """
    settle()
    if strangers(family):
        _configure(time.monotonic() + timeout_s)
    left = strangers(family)
    if left:
        raise stuck(left, command.read(LOG))


def foreign_alone(family: Sequence[str], timeout_s: int) -> None:
    """Do the same while servers are at work: not where the driver is unfinished, whose services would start anew."""
    if len(strangers(family)) == len(unfinished()):
        foreign(family, timeout_s)


def settle() -> None:
    """Let dpkg write down for good what it had done when it was cut off; nothing is configured by that."""
    if not dpkg.interrupted():
        return
    with contextlib.suppress(subprocess.TimeoutExpired):
        subprocess.run(["dpkg", "--set-selections"], input=b"", capture_output=True, check=False, timeout=JOURNAL_S)
    if dpkg.interrupted():
        raise Problem(
            "dpkg-interrupted",
            "an earlier dpkg run was cut off, and dpkg cannot take up what it had done",
            "run 'dpkg --configure -a' on the host and see what it says, then run again",
        )


def unfinished() -> list[str]:
    """Name every package that is half installed or not configured."""
    return [each.name for each in dpkg.here() if not each.whole]


def strangers(family: Sequence[str]) -> list[str]:
    """Name those of them that do not belong to the driver."""
    return [name for name in unfinished() if not dpkg.belongs(name, family)]


def archived(name: str, version: str = "*") -> Path | None:
    """Return the file of a package that apt had fetched last."""
    found = ARCHIVES.glob(f"{name}_{version.replace(':', '%3a')}_*.deb")
    return max(found, key=lambda path: path.stat().st_ctime, default=None)


def _configure(deadline: float) -> None:
    """Configure what can be; what fails then is seen by its state."""
    limit_s = min(_left_s(deadline), CONFIGURE_S)
    command.run(["dpkg", "--force-confold", "--configure", "-a"], LOG, limit_s, apt.ENVIRONMENT)


def _dpkg(*action: str) -> None:
    """Do one thing to one package; whether that was enough is for the transaction to say."""
    command.run(["dpkg", *FORCED, *action], LOG, CONFIGURE_S, apt.ENVIRONMENT)


def _left_s(deadline: float) -> int:
    return max(1, int(deadline - time.monotonic()))


def stuck(names: Sequence[str], said: Sequence[str]) -> Problem:
    """Say which packages dpkg cannot finish."""
    shown = ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
    return Problem(
        "dpkg-unfinished",
        f"an earlier dpkg run left packages unfinished, and dpkg cannot finish them: {shown}",
        "see 'dpkg --audit' and 'dpkg --configure -a' on the host, put these packages in order, then run again",
        list(said[-6:]),
    )
