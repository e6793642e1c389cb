"""Somebody outside who asks every server for a token again and again, through the network."""

import http.client
import json
import threading
import time
from collections.abc import Mapping
from itertools import pairwise
from types import TracebackType

EVERY_S = 0.05
TIMEOUT_S = 2.0
BODY = json.dumps({"model": "tiny", "prompt": "ping", "max_tokens": 1})


class Prober:
    """Asks every 50 ms while it is entered; keeps when answers came (time.time)."""

    def __init__(self, servers: Mapping[str, tuple[str, int]], key: str) -> None:
        self.answers: dict[str, list[float]] = {name: [] for name in servers}
        self._headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._ask, args=(name, *address), daemon=True) for name, address in servers.items()
        ]

    def __enter__(self) -> "Prober":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def longest_gap_s(self, name: str) -> float:
        """Return the longest time without an answer, less the pause between two questions."""
        times = self.answers[name]
        return max(later - earlier for earlier, later in pairwise(times)) - EVERY_S

    def first_answer_after(self, name: str, moment: float) -> float:
        """Return when the first answer after a moment came."""
        return next(at for at in self.answers[name] if at > moment)

    def _ask(self, name: str, address: str, port: int) -> None:
        while not self._over.wait(EVERY_S):
            connection = http.client.HTTPConnection(address, port, timeout=TIMEOUT_S)
            try:
                connection.request("POST", "/v1/completions", BODY, self._headers)
                answer = connection.getresponse()
                if answer.status == 200 and answer.read():
                    self.answers[name].append(time.time())
            except (OSError, http.client.HTTPException):
                continue
            finally:
                connection.close()
