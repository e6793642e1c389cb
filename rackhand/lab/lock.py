"""Locks between processes that never stall the other greenlets of this one."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rackhand.errors import RackhandError

POLL_S = 0.05


@contextmanager
def exclusive(path: Path, timeout_s: float) -> Iterator[None]:
    """Hold the lock file `path`; raise lab.busy when another process keeps it for `timeout_s` seconds.

    A blocking flock would stop every greenlet of a pyinfra run, the holder included, so this polls.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _take(descriptor, path, time.monotonic() + timeout_s)
        yield
    finally:
        os.close(descriptor)


def _take(descriptor: int, path: Path, deadline: float) -> None:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise RackhandError(
                    "lab.busy",
                    "another process has held this lock for too long",
                    str(path),
                    f"find it with: fuser {path}",
                ) from None
            time.sleep(POLL_S)
