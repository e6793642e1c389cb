"""Hold an instance back until the one that it shares GPUs with is ready: two that start together mis-size each other.

Runs before the instance's own start, as root and from the release, with the interpreter of its environment.
"""

from __future__ import annotations

import http.client
import subprocess
import sys
import time
import urllib.request

POLL_S = 2.0
ANSWER_S = 5.0
# What systemd says of a unit that does not run and is not about to.
STOPPED = ("inactive", "failed", "unknown")


def follow(unit: str, url: str, seconds: float) -> int:
    """Return 0 once `url` answers 200 or `unit` does not run, 1 when `seconds` are over."""
    deadline = time.monotonic() + seconds
    while True:
        if _stopped(unit) or _healthy(url):
            return 0
        if time.monotonic() > deadline:
            sys.stderr.write(f"{unit} is not ready after {seconds:g} s, and its GPUs cannot be shared before\n")
            return 1
        time.sleep(POLL_S)


def _stopped(unit: str) -> bool:
    said = subprocess.run(["systemctl", "is-active", unit], capture_output=True, text=True, check=False).stdout
    return said.strip() in STOPPED


def _healthy(url: str) -> bool:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=ANSWER_S) as answer:
            return bool(answer.status == 200)
    except (OSError, http.client.HTTPException):
        return False


if __name__ == "__main__":
    sys.exit(follow(sys.argv[1], sys.argv[2], float(sys.argv[3])))
