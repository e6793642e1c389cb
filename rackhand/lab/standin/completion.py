"""Tokens out of nothing: the same words for the same prompt, counted as vLLM counts them."""

import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from .faults import Engine

WORDS = ("The", " rack", " hums", " and", " every", " fan", " turns", " in", " time", ".")
DEFAULT_TOKENS = 16


@dataclass
class Counters:
    """Count what /metrics reports; one lock for all request threads."""

    prompt_tokens: int = 0
    generation_tokens: int = 0
    running: int = 0
    successes: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, *, prompt_tokens: int = 0, generation_tokens: int = 0, running: int = 0, successes: int = 0) -> None:
        """Move the counters by the given amounts."""
        with self.lock:
            self.prompt_tokens += prompt_tokens
            self.generation_tokens += generation_tokens
            self.running += running
            self.successes += successes


@dataclass(frozen=True, kw_only=True)
class Request:
    """Hold one completion request, plain or chat."""

    model: str
    prompt: str
    max_tokens: int
    stream: bool
    include_usage: bool
    chat: bool
    id: str
    fingerprint: str

    @property
    def prompt_tokens(self) -> int:
        """Count one token per byte, as a byte-level tokenizer without merges does."""
        return len(self.prompt.encode())


def read(body: dict[str, Any], *, chat: bool, fingerprint: str) -> Request:
    """Take a request apart. Raises KeyError, TypeError or ValueError where it is malformed."""
    prompt = _transcript(body["messages"]) if chat else body["prompt"]
    limit = body.get("max_completion_tokens") or body.get("max_tokens") or DEFAULT_TOKENS
    return Request(
        model=str(body["model"]),
        prompt=prompt if isinstance(prompt, str) else str(prompt),
        max_tokens=int(limit),
        stream=bool(body.get("stream", False)),
        include_usage=bool((body.get("stream_options") or {}).get("include_usage")),
        chat=chat,
        id=f"{'chatcmpl' if chat else 'cmpl'}-{uuid.uuid4().hex[:16]}",
        fingerprint=fingerprint,
    )


def tokens(request: Request, engine: Engine, counters: Counters) -> Iterator[str]:
    """Yield the tokens of the answer, slowed or cut short by the active faults."""
    wanted = request.max_tokens - (1 if engine.fault("four-tokens") is not None else 0)
    for index in range(wanted):
        time.sleep(engine.fault_s("slow-tokens", 1.0) or 0.0)
        if engine.fault("frozen-counter") is None:
            counters.add(generation_tokens=1)
        yield WORDS[index % len(WORDS)]


def whole(request: Request, text: str, count: int) -> dict[str, Any]:
    """Form the answer of a request that is not streamed."""
    part = {"message": {"role": "assistant", "content": text}} if request.chat else {"text": text}
    return {**_envelope(request, part, "length", chunk=False), "usage": usage(request, count)}


def chunk(request: Request, text: str, finish_reason: str | None) -> dict[str, Any]:
    """Form one event of a streamed answer."""
    part = {"delta": {"content": text}} if request.chat else {"text": text}
    return _envelope(request, part, finish_reason, chunk=True)


def usage(request: Request, count: int) -> dict[str, int]:
    """Count tokens in the form of the OpenAI API."""
    prompt = request.prompt_tokens
    return {"prompt_tokens": prompt, "total_tokens": prompt + count, "completion_tokens": count}


def _envelope(request: Request, part: dict[str, Any], finish_reason: str | None, *, chunk: bool) -> dict[str, Any]:
    kind = ("chat.completion.chunk" if chunk else "chat.completion") if request.chat else "text_completion"
    choice = {"index": 0, **part, "logprobs": None, "finish_reason": finish_reason}
    return {
        "id": request.id,
        "object": kind,
        "created": int(time.time()),
        "model": request.model,
        "choices": [choice],
        "system_fingerprint": request.fingerprint,
    }


def _transcript(messages: list[dict[str, str]]) -> str:
    return "".join(f"{message['role']}: {message['content']}\n" for message in messages) + "assistant:"
