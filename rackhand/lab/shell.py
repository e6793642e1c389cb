"""Run the outer machine's tools."""

import os
import subprocess
from collections.abc import Mapping, Sequence

from rackhand.errors import RackhandError

TIMEOUT_S = 120


def run(
    argv: Sequence[str], *, stdin: str | None = None, timeout_s: float = TIMEOUT_S, env: Mapping[str, str] | None = None
) -> str:
    """Return what `argv` printed; raise lab.command with its last lines when it fails."""
    done = attempt(argv, stdin=stdin, timeout_s=timeout_s, env=env)
    if done.returncode:
        lines = tuple((done.stderr or done.stdout).strip().splitlines()[-5:])
        raise RackhandError(
            "lab.command",
            f"exit status {done.returncode}: {lines[-1] if lines else 'no output'}",
            " ".join(argv[:6]),
            "run it by hand to see more, or start over with: rackhand lab down",
            evidence=lines,
        )
    return done.stdout


def attempt(
    argv: Sequence[str], *, stdin: str | None = None, timeout_s: float = TIMEOUT_S, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `argv` and return it finished, whatever its exit status."""
    return subprocess.run(
        list(argv),
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=timeout_s,
        check=False,
        env={**os.environ, "LC_ALL": "C.UTF-8", **(env or {})},
    )
