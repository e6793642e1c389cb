"""Run the outer machine's tools."""

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from rackhand.errors import RackhandError

TIMEOUT_S = 120
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def run(
    argv: Sequence[str], *, stdin: str | None = None, timeout_s: float = TIMEOUT_S, env: Mapping[str, str] | None = None
) -> str:
    """Return what `argv` printed; raise lab.command with its last lines when it fails."""
    done = attempt(argv, stdin=stdin, timeout_s=timeout_s, env=env)
    if done.returncode:
        lines = tuple((done.stderr or done.stdout).strip().splitlines()[-5:])
        decisive = next((line for line in lines if "error" in line.lower()), lines[-1] if lines else "no output")
        raise RackhandError(
            "lab.command",
            f"exit status {done.returncode}: {decisive}",
            " ".join(argv[:6]),
            "run it by hand to see more, or start over with: rackhand lab down",
            evidence=lines,
        )
    return done.stdout


def detach(argv: Sequence[str], log: Path, pass_fds: Sequence[int] = ()) -> None:
    """Start `argv` in a session of its own: it outlives this process, is not its child, and writes to `log`."""
    with log.open("ab") as output:
        command = ["setsid", "--fork", *argv]
        subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, pass_fds=pass_fds, cwd="/", check=True
        )


def attempt(
    argv: Sequence[str], *, stdin: str | None = None, timeout_s: float = TIMEOUT_S, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `argv` and return it finished, whatever its exit status; 127: no such program, 124: took `timeout_s`."""
    try:
        return subprocess.run(
            list(argv),
            input="" if stdin is None else stdin,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
            env={
                **os.environ,
                "PATH": f"{os.environ.get('PATH', '')}:{SYSTEM_PATH}",
                "LC_ALL": "C.UTF-8",
                **(env or {}),
            },
        )
    except FileNotFoundError:
        return subprocess.CompletedProcess(list(argv), 127, "", f"{argv[0]}: not found")
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(list(argv), 124, "", f"{argv[0]}: killed after {timeout_s:.0f} s")
