"""Constant load from OpenAI's own client, and how each of its requests ended."""

import asyncio
import contextlib
import itertools
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from openai import AsyncOpenAI

ANSWER_S = 60
# After a failure a client waits a moment, in seconds: what refuses at once is not to be asked thousands of times.
PAUSE_S = 0.2


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What one client asks for, again and again."""

    tokens: int
    stream: bool = False


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One request that has ended; times in seconds since the epoch, `served` by which server, empty `failure`: well."""

    kind: Kind
    began: float
    ended: float
    served: str
    failure: str = ""


@dataclass(kw_only=True)
class Load:
    """Clients that each ask for one thing after the other, as their kinds go; `most` bounds what all of them ask.

    After each answer a client thinks for `pause_s`.
    """

    url: str
    key: str
    clients: Sequence[Sequence[Kind]]
    most: int
    pause_s: float = 0.0
    ended: list[Asked] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    @contextlib.contextmanager
    def going(self) -> Iterator["Load"]:
        """Keep the clients asking; every request that was begun has ended at the end."""
        thread = threading.Thread(target=lambda: asyncio.run(self._all()))
        thread.start()
        try:
            yield self
        finally:
            self.over.set()
            thread.join()

    def reaches(self, count: int, within_s: float) -> None:
        """Wait until so many requests have ended."""
        deadline = time.monotonic() + within_s
        while len(self.ended) < count and time.monotonic() < deadline:
            time.sleep(0.1)

    async def _all(self) -> None:
        places = itertools.count(1)
        async with AsyncOpenAI(base_url=self.url, api_key=self.key, max_retries=0, timeout=ANSWER_S) as line:
            await asyncio.gather(*(self._client(line, kinds, places) for kinds in self.clients))

    async def _client(self, line: AsyncOpenAI, kinds: Sequence[Kind], places: Iterator[int]) -> None:
        for kind in itertools.cycle(kinds):
            if self.over.is_set() or next(places) > self.most:
                return
            asked = await _ask(line, kind)
            self.ended.append(asked)
            await asyncio.sleep(PAUSE_S if asked.failure else self.pause_s)


async def _ask(line: AsyncOpenAI, kind: Kind) -> Asked:
    began, served, failure = time.time(), "", ""
    try:
        served, count = await (_streamed(line, kind) if kind.stream else _plain(line, kind))
        failure = "" if count == kind.tokens else f"{count} of {kind.tokens} tokens"
    except Exception as error:
        failure = f"{error!r}, because of {error.__cause__!r}"
    return Asked(kind=kind, began=began, ended=time.time(), served=served, failure=failure)


def _wished(kind: Kind) -> dict[str, object]:
    # Greedy: for its first sampled token a real engine on a CPU compiles for half a minute.
    wished = {"model": "tiny", "prompt": "hi", "max_tokens": kind.tokens, "temperature": 0}
    return {**wished, "extra_body": {"ignore_eos": True}}


async def _plain(line: AsyncOpenAI, kind: Kind) -> tuple[str, int]:
    """Return which server answered, and with how many tokens."""
    answer = await line.completions.create(**_wished(kind))
    return answer.system_fingerprint or "", answer.usage.completion_tokens


async def _streamed(line: AsyncOpenAI, kind: Kind) -> tuple[str, int]:
    """Read a stream to its end; one that breaks off before its last event has no count."""
    served, count = "", 0
    stream = await line.completions.create(**_wished(kind), stream=True, stream_options={"include_usage": True})
    async for event in stream:
        served = event.system_fingerprint or served
        count = event.usage.completion_tokens if event.usage else count
    return served, count
